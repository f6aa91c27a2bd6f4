"""What kombu is told of a trigger's broker: how to connect, what to declare, where to publish."""

from typing import Any, Final

from kombu import Connection, Exchange, Queue
from kombu.transport.virtual import Transport as VirtualTransport

from forebay.background.triggers.table import Trigger

CONNECT_S: Final = 5.0
HEARTBEAT_S: Final = 20.0
"""Of AMQP: what has been silent for twice as long is lost."""

VISIBILITY_S: Final = 300
"""What a killed process had taken comes again so much later, where it is not the broker that
notices. It is less than an outcome is kept, so that it doesn't run again."""

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "amqp": {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30},
    "redis": {
        "visibility_timeout": VISIBILITY_S,
        "socket_timeout": 10,
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
    },
    "sqs": {"visibility_timeout": VISIBILITY_S, "wait_time_seconds": 1},
}
"""Of transports, by kombu's name for their kind; a trigger's own go before."""

DROPPED: Final[dict[str, Any]] = {"deadletter_queue": None}
"""Of those that kombu makes brokers of: what is for nobody is for nobody, as with AMQP. It would
pile up under one name for all."""


def connection_of(trigger: Trigger) -> Connection:
    """A connection that is made when it is first used."""
    plain = Connection(trigger.broker)
    ours = OPTIONS.get(plain.transport.driver_type, {}) | (DROPPED if is_virtual(plain) else {})
    heartbeat = HEARTBEAT_S if plain.supports_heartbeats else 0
    return Connection(
        trigger.broker,
        transport_options=ours | trigger.options,
        connect_timeout=CONNECT_S,
        heartbeat=heartbeat,
    )


def events_of(trigger: Trigger) -> Queue:
    """The queue that events come from."""
    exchange = _exchange(trigger.exchange, trigger.exchange_type)
    key = trigger.routing_key or trigger.queue
    return Queue(trigger.queue, exchange, routing_key=key, no_declare=not trigger.declare)


def others_of(trigger: Trigger) -> list[Exchange | Queue]:
    """What else has to be there before anything can be published."""
    result = trigger.result
    exchange = _exchange(result.exchange, result.exchange_type)
    found: list[Exchange | Queue] = [Queue(trigger.dead_letters)]
    if result.queue:
        found.append(Queue(result.queue, exchange, routing_key=result.key))
    elif exchange is not None:
        found.append(exchange)
    return found


def is_virtual(connection: Connection) -> bool:
    """Whether kombu itself keeps what is not yet acknowledged, as the broker can't."""
    return isinstance(connection.transport, VirtualTransport)


def _exchange(name: str, kind: str) -> Exchange | None:
    return Exchange(name, type=str(kind)) if name else None
