"""Webhooks: from the outbox to the receiver, at least once.

    outbox ──relay──▶ delivery (record) ──▶ Celery message ──▶ sender ──▶ receiver
              │            ▲                  (may be lost)       │
            bodies         └────── due again, by the schedule ◀───┘

    relay     moves the outboxes into deliveries, and hands out what is due
    bodies    what is said of an event, in the words of its dialect
    sender    tries deliveries, many at once, few at one host
    caller    calls one, once, with a signature
    circuit   when a host that does not answer is called again
    hooks     builds these, and runs them on a loop of their own

A receiver that hangs holds its host's few places and no thread, so it delays nobody else.
"""
