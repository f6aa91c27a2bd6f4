"""The lanes: Forebay's protocol on Redis, and the only place that knows it.

    gateway ──enqueue──▶ lane (stream) ──read──▶ worker ──settle──▶ record + reply channel
                                         ▲         │ renew                       │
                                         └─reclaim─┘                  inbox ◀────┘ pub/sub

    keys      every key: type, writer, reader, time to live
    scripts   one atomic operation each (`scripts/*.lua`) behind a typed stub
    coalescer many small writes become few
    lane      enqueue, through one
    parts     cuts rows into lane entries
    producer  all of it that a process needs which enqueues and waits
    shares    which of a model's versions something is given to
    consumer  read, renew, reclaim, settle: what a worker does
    cancel    end predictions that nobody wants any more
    endings   what a worker hears of that
    readers   whether who reads a stream is still there, where it ends with them
    running   which entries a worker runs, told before it does
    replies   the inbox: one subscription per gateway process
    predictions  read one back
    dead      dead letters: told, opened, replayed, dropped
    sweeps    what time does to lanes: deadlines, orphans, dead letters past retention
    roster    which workers are present, and which models each has
    orders    have a worker load or unload a model
    depth     demand, and who is there to work it off
    presence  who that is, how fast each, and whether it holds anything
    wakes     hearing that something waits and nobody is there
    scaling   how many replicas are wanted

Redis keeps the truth: a result is stored before it is published, and whoever missed the message
re-reads the record.
"""
