"""Background work, on Celery: what nobody waits for and time demands.

    beat ──a message each period──▶ queue in Redis ──▶ worker ──▶ sweeps of the lanes
                                                              └─▶ retention of files, dead letters

    outboxes ──relay──▶ deliveries ──▶ worker ──▶ receivers of webhooks

    app         the Celery app: queues, schedule, tasks
    chores      what the tasks do, by model, in bounded bites
    broker      what Celery is told of its broker
    transport   kombu's, without acknowledgements
    webhooks    relay, sender, and what is said
    intake      services that take work from elsewhere, and ask a gateway for it
    services    which of them run
    batches     one of them: requests in a file, answers in another
    ingress     another: tasks of Celery apps
    triggers    another: events of brokers
    taking      what the last two take, and hold until the outcome is told
    loop        the event loop that blocking tasks run async code on
    processes   worker and beat, as `forebay background` and `forebay background --beat`

A message is lost if its worker is killed, and may come twice. So every task only brings the state
of Redis or of a folder up to date with the time: a lost one is made up for by the next, and a
repeated one finds nothing to do. Messages expire after their period, and a worker that comes
back after a pause drops those that piled up unread.
"""
