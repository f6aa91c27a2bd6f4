"""A trigger's queue on a Redis: taken from its lists by a script, so that nothing is ever nowhere.

Kombu pops a message and then notes it: who is killed between loses it. Here it is moved to a place
of this process, and stays there until its result is published (`taking.place`). Kombu connects,
declares and publishes; so whatever it can connect to will do, sentinels among them.
"""

import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import redis
from kombu import Connection
from kombu.transport.redis import Transport
from redis.backoff import NoBackoff
from redis.retry import Retry

from forebay.background.taking import envelopes
from forebay.background.taking.place import Place, Taken, lists_of
from forebay.background.triggers.brokers import events_of
from forebay.background.triggers.inlets import Came, Delivered, Wait
from forebay.background.triggers.table import ExchangeType, Trigger

T = TypeVar("T")

POLL_S: Final = 0.02
"""How often the lists are looked at while there is nothing to do."""


class LeaseLostError(ConnectionError):
    """Others have taken over what was held: this was not heard of for too long."""


class Taker:
    """Who takes a trigger's messages, whatever happens to the connection meanwhile.

    Attributes:
        prefix: `settings.key_prefix`.
        name: of its own.
        lease_s: for how long what it holds is its own if it is not heard of.
    """

    def __init__(self, prefix: str, name: str, lease_s: float) -> None:
        self.prefix = prefix
        self.name = name
        self.lease_s = lease_s


class Lists:
    """An `Inlet` from a Redis. What was held when the last connection was lost comes first.

    Args:
        trigger: whose queue this is.
        channel: of kombu's.
        taker: who takes.
        came: called with each message.
        wait: for outcomes.
    """

    def __init__(
        self, trigger: Trigger, channel: Any, *, taker: Taker, came: Came, wait: Wait
    ) -> None:
        self._came = came
        self._wait = wait
        self._prefetch = trigger.prefetch
        self._lease_s = taker.lease_s
        self._tags: set[str] = set()
        if trigger.declare:
            events_of(trigger)(channel).declare()
        prefix = channel.global_keyprefix
        self._queue = trigger.queue
        self._lists = lists_of(
            trigger.queue, prefix=prefix, separator=channel.sep, steps=channel.priority_steps
        )
        self._place = Place(
            _Blocking(channel.pool),
            f"{prefix}{taker.prefix}:{{trigger {trigger.queue}}}",
            taker=taker.name,
            lease_s=taker.lease_s,
        )
        self._reclaim_at = time.monotonic()
        # From here on nobody takes over what is found to be held.
        _done(self._place.take({}, most_due=0))
        for taken in _done(self._place.held()):
            self._begin(taken)

    def listen(self) -> None:
        """Take what is there.

        Raises:
            LeaseLostError: what was taken before is others' now.
        """
        room = max(0, self._prefetch - len(self._tags))
        queues = {self._queue: (self._lists, room)} if room else {}
        known, taken = _done(self._place.take(queues, most_due=0))
        if not known:
            raise LeaseLostError("others have taken over what was held")
        if room > len(taken) and time.monotonic() >= self._reclaim_at:
            taken += _done(self._place.reclaim(most=room - len(taken)))
            self._reclaim_at = time.monotonic() + self._lease_s / 3
        for one in taken:
            self._begin(one)
        if not taken:
            self._wait(POLL_S)

    def acknowledge(self, tag: Any) -> None:
        """Hold a message no more."""
        _done(self._place.drop([tag]))
        self._tags.discard(tag)

    def reject(self, tag: Any) -> None:
        """Hold a message no more."""
        self.acknowledge(tag)

    def leave(self) -> None:
        """Put what is held back on the list, where it is next."""
        _done(self._place.give_back(self._lists[0]))

    def _begin(self, taken: Taken) -> None:
        self._tags.add(taken.place)
        try:
            envelope = envelopes.opened(taken.message)
        except ValueError as error:
            fault = f"it is no message of kombu's: {error}"
            self._came(Delivered(taken.place, taken.message, {}, "", fault))
            return
        self._came(Delivered(taken.place, envelope.body, envelope.headers, envelope.content_type))


class _Blocking:
    """Commands of a thread that does nothing else meanwhile.

    None is repeated: what a `take` without an answer took is found by `held` of the next inlet.
    """

    def __init__(self, pool: Any) -> None:
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._redis.set_retry(Retry(NoBackoff(), 0))
        self._redis.response_callbacks.clear()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._redis.execute_command(*args, **options)


def _done(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine comes to that never waits, as its commands block."""
    try:
        work.send(None)
    except StopIteration as done:
        told: T = done.value
        return told
    raise RuntimeError("a command of a blocking client has waited")


def has_lists(trigger: Trigger, connection: Connection) -> bool:
    """Whether a trigger's queue is lists of a Redis. What a fanout exchange has for it is not."""
    return (
        isinstance(connection.transport, Transport)
        and trigger.exchange_type is not ExchangeType.FANOUT
    )
