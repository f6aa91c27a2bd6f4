"""Moves outboxes into deliveries, and has sent what is due.

Several may run at once, and any may be killed at any time: a delivery's id follows from its event,
so that what is moved twice is there once; and an event is deleted once its deliveries are recorded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.background.webhooks.bodies import Bodies
from forebay.contract.notices import Delivery
from forebay.lanes.keys import Keys
from forebay.lanes.sweeps import models_to_sweep
from forebay.records.deliveries import Deliveries
from forebay.records.keys import webhook_keys
from forebay.records.outbox import Written, moved, written
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often all outboxes and what is due are looked at, whatever is heard."""

BITE: Final = 100
"""Events moved in one go."""

MOST_DUE: Final = 1_000
"""Deliveries handed out in one go."""

MOST_WAITING: Final = 500_000
"""Deliveries that wait to be sent. While there are so many, events stay in their outboxes."""

Send = Callable[[Sequence[tuple[str, str]]], Awaitable[None]]
"""Has deliveries sent: their ids, each with its receiver's host."""


class Relay:
    """One process's relay.

    Args:
        redis: client whose commands are not retried.
        listening: made by `connect_blocking`.
        keys: key builder.
        models: of the catalog; those of earlier ones are looked after as well.
        deliveries: where to.
        bodies: makes them.
        send: has them sent.
        longest_s: how long a delivery may wait until it has failed.
        keep_s: how long it is kept then.
    """

    def __init__(
        self,
        redis: Commands,
        listening: Redis,
        keys: Keys,
        models: Sequence[str],
        *,
        deliveries: Deliveries,
        bodies: Bodies,
        send: Send,
        longest_s: float,
        keep_s: float,
    ) -> None:
        self._redis = redis
        self._listening = listening
        self._keys = keys
        self._models = models
        self._deliveries = deliveries
        self._bodies = bodies
        self._send = send
        self._longest_ms = int(longest_s * 1000)
        self._keep_ms = int(keep_s * 1000)
        self._heard = asyncio.Event()
        self._outboxes: tuple[str, ...] = ()

    async def run(self) -> None:
        """Work until cancelled, through outages."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="outbox-channel")
            while True:
                self._heard.clear()
                try:
                    await self.look()
                except (RedisError, OSError) as error:
                    log.warning("webhooks are put off: %s", error)
                    await asyncio.sleep(LOOK_S)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._heard.wait()
                except TimeoutError:
                    pass

    async def look(self) -> None:
        """Move what is there, and have sent what is due.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        models = await models_to_sweep(self._redis, self._keys, self._models)
        outboxes = (
            webhook_keys(self._keys).outbox,
            *(self._keys.of(name).outbox for name in models),
        )
        self._outboxes = outboxes
        more = True
        while more:
            # A bite of each in turn: no model's events wait for all of another's.
            more = await self._hand_out() == MOST_DUE
            for outbox in outboxes:
                more |= await self._move(outbox) == BITE

    async def _hand_out(self) -> int:
        """Have sent what is due; returns how much."""
        due = await self._deliveries.overdue(
            most=MOST_DUE, longest_ms=self._longest_ms, keep_ms=self._keep_ms
        )
        await self._send(due)
        return len(due)

    async def _move(self, outbox: str) -> int:
        """Move the oldest events of an outbox; returns how many."""
        events = await written(self._redis, outbox, most=BITE)
        if not events:
            return 0
        if await self._deliveries.waiting() >= MOST_WAITING:
            log.warning("%d webhooks wait to be sent; no more are taken up", MOST_WAITING)
            return 0
        made = [one for some in await asyncio.gather(*map(self._made, events)) for one in some]
        new = await self._deliveries.deliver(made, keep_ms=self._keep_ms)
        await self._send(
            [(one.id, host) for (one, host), fresh in zip(made, new, strict=True) if fresh]
        )
        await moved(self._redis, outbox, [event.entry for event in events])
        return len(events)

    async def _made(self, event: Written) -> list[tuple[Delivery, str]]:
        """Deliveries of an event; none, and a line in the log, where nothing can be said of it."""
        try:
            return await self._bodies.of(event)
        except (RedisError, OSError):
            raise
        except (LookupError, ValueError, msgspec.MsgspecError) as error:
            log.warning("nobody is told of %s of %s: %s", event.event, event.subject, error)
        except Exception:
            log.exception("nobody is told of %s of %s", event.event, event.subject)
        return []

    async def _listen(self) -> None:
        """Hear of what is written, through any number of reconnects."""
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                log.debug("listening for the outboxes is interrupted: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _hear(self) -> None:
        async with self._listening.pubsub(ignore_subscribe_messages=True) as channels:
            subscribed: tuple[str, ...] = ()
            while True:
                if self._outboxes and subscribed != self._outboxes:
                    await channels.subscribe(*self._outboxes)
                    subscribed = self._outboxes
                    self._heard.set()
                if not subscribed:
                    await asyncio.sleep(LOOK_S / 10)
                elif await channels.get_message(timeout=LOOK_S) is not None:
                    self._heard.set()
