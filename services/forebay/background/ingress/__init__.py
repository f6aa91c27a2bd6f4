"""Celery ingress: tasks of any Celery app, run by Forebay's workers, told by Celery's own means.

    app.send_task ─▶ broker ─▶ source ─▶ flights ─▶ Asking ─▶ lanes ─▶ workers
                                 │          │
                               taking     telling ─┬─▶ results, in bulk ─────▶ the app's backend
                                                   └─▶ replay, by Celery ──▶ callbacks, chains, …

    apps       what is known of the apps: broker, backends, queues, routes
    source     where messages come from: lists of a Redis, or a consumer
    consumer   messages of any other broker
    letters    messages that nothing can be made of
    messages   what one says
    calls      what it asks for
    inputs     the input in it
    flight     one task under way
    flights    tasks under way
    serving    what becomes of one message
    revocations which of them are to end
    outcomes   how they end
    telling    tells it
    results    in bulk
    replay     by way of Celery's tracer
    remote     revoke, ping, inspect
    service    all of it, as a service of the intake

Why not a Celery worker: it has one task a process or thread, and so no micro-batches, and its Redis
transport loses what it has read and not recorded when it is killed (decision 0057).
"""
