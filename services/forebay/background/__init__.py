"""Background work, on Celery: what nobody waits for and time demands.

    beat ──a message each period──▶ queue in Redis ──▶ worker ──▶ sweeps of the lanes
                                                              └─▶ retention of files, dead letters

    app         the Celery app: queues, schedule, tasks
    chores      what the tasks do, by model, in bounded bites
    broker      what Celery is told of its broker
    transport   kombu's, without acknowledgements
    loop        the event loop that blocking tasks run async code on
    processes   worker and beat, as `forebay background` and `forebay background --beat`

A message is lost if its worker is killed, and may come twice. So every task only brings the state
of Redis or of a folder up to date with the time: a lost one is made up for by the next, and a
repeated one finds nothing to do. Messages expire after their period, and a worker that comes
back after a pause drops those that piled up unread.
"""
