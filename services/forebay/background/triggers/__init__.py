"""Event triggers: messages of a broker run a model, and what came of them is published.

    broker ─▶ link ─▶ events, inputs ─▶ service ─▶ Asking ─▶ … ─▶ service ─▶ link ─▶ broker

    table       triggers.toml
    brokers     what kombu is told of a trigger's broker
    link        a trigger's thread and connection
    inlets      how messages come: by kombu
    lists       or from a Redis, by a script
    events      CloudEvents in and out
    inputs      from an event to a model's input
    forgetting  when outcomes are deleted
    service     all of it, on the loop of the intake

A message is acknowledged once its result is published. Whoever is killed before has lost nothing:
the message comes again, and its event is known by the same key, so that it is not run twice.
"""
