"""Tries deliveries: many at once, few at one host, none at a host that does not answer.

A place is given to the host whose turn it is. One that has answered lately gets several; one that
is not known gets two, until it answers, be it with an error; and all of those that did not answer
share a part of the places, so that any number of receivers that hang leaves room for the others.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from forebay.background.webhooks.caller import Caller
from forebay.background.webhooks.circuit import Circuit
from forebay.contract.notices import Attempt, DeliveryState, pause_s
from forebay.records.deliveries import Deliveries, Sending

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 512
"""Attempts under way, all hosts together."""

MOST_NEW: Final = 384
"""Of those, at hosts that did not answer the last time, or were never called."""

MOST_SUSPECT: Final = 128
"""Of these, at hosts that did not answer."""

MOST_A_HOST: Final = 8
"""Attempts under way at one host that answers: what it holds up, if it hangs, is its own."""

MOST_UNPROVEN: Final = 2
"""Attempts under way at one that did not, or was never called."""

MOST_HELD: Final = 20_000
"""Deliveries that wait here for a place; more are due again by themselves."""

MOST_HOSTS: Final = 1_000
"""Hosts remembered, as far as nothing of theirs is under way."""

LEASE_S: Final = 5.0
"""By how much longer than its receiver may take a delivery is held by who tries it."""

WRITE_AGAIN_S: Final = 0.5
"""Pause before what came of an attempt is written again, where Redis was out of reach."""


class _Host:
    """What is under way at one host, and what waits for that.

    Attributes:
        answers: whether it did the last time; None if it was never called.
    """

    def __init__(self, name: str, first_pause_s: float) -> None:
        self.name = name
        self.answers: bool | None = None
        self.waiting: deque[str] = deque()
        self.running = 0
        self.circuit = Circuit(first_pause_s)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    @property
    def places(self) -> int:
        return MOST_A_HOST if self.answers else MOST_UNPROVEN


class Sender:
    """Tries what it is offered, on the event loop that it is used on.

    Args:
        deliveries: their records.
        caller: calls receivers.
        schedule: pauses between attempts, seconds.
        keep_s: how long deliveries are kept that are over.
        chance: draws a number from 0 up to 1.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        caller: Caller,
        *,
        schedule: Sequence[float],
        keep_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._caller = caller
        self._schedule = schedule
        self._keep_ms = int(keep_s * 1000)
        self._chance = chance
        self._hosts: dict[str, _Host] = {}
        self._held: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._new = 0
        self._suspect = 0

    def offer(self, delivery: str, host: str) -> None:
        """Try a delivery as soon as there is a place at its host."""
        if delivery in self._held or len(self._held) >= MOST_HELD:
            return
        self._held.add(delivery)
        found = self._hosts.get(host)
        if found is None:
            self._forget_hosts()
            found = self._hosts[host] = _Host(host, self._schedule[0] if self._schedule else 1.0)
        found.waiting.append(delivery)
        self._begin(found)

    async def aclose(self, *, within_s: float) -> None:
        """Let what is under way end, for so long; the rest is due again by itself."""
        for host in self._hosts.values():
            host.waiting.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _is_full(self) -> bool:
        return (
            self._running >= MOST_AT_ONCE or self._new >= MOST_NEW or self._suspect >= MOST_SUSPECT
        )

    def _has_place(self, host: _Host) -> bool:
        if self._running >= MOST_AT_ONCE or host.running >= host.places:
            return False
        if host.answers:
            return True
        return self._new < MOST_NEW and (host.answers is None or self._suspect < MOST_SUSPECT)

    def _begin(self, host: _Host, *, most: int = MOST_A_HOST) -> None:
        """Begin as much as there are places for, but no more than `most`."""
        while most and host.waiting and self._has_place(host):
            most -= 1
            closed_s = host.circuit.closed_in_s(time.monotonic())
            if closed_s:
                self._spawn(self._postpone(list(host.waiting), closed_s))
                host.waiting.clear()
                return
            host.circuit.begin()
            was = host.answers
            host.running += 1
            self._running += 1
            self._count(was, 1)
            self._spawn(self._run(host, host.waiting.popleft(), was))

    def _count(self, answers: bool | None, by: int) -> None:
        if not answers:
            self._new += by
            self._suspect += by if answers is False else 0

    def _begin_in_turn(self) -> None:
        """Give the places that are free to the hosts that have waited longest for one."""
        for host in list(self._hosts.values()):
            if self._running >= MOST_AT_ONCE:
                return
            if host.waiting and self._has_place(host):
                self._hosts[host.name] = self._hosts.pop(host.name)  # behind all others
                self._begin(host, most=1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _postpone(self, deliveries: list[str], closed_s: float) -> None:
        """Look after these when their host may be called again, not all at once."""
        by_ms = [int(closed_s * 1000 * (1 + self._chance())) for _ in deliveries]
        try:
            await self._deliveries.postpone(deliveries, by_ms)
        except (RedisError, OSError) as error:
            log.debug("%d webhooks are not put off: %s", len(deliveries), error)
        finally:
            self._held.difference_update(deliveries)

    async def _run(self, host: _Host, delivery: str, answered: bool | None) -> None:
        try:
            await self._try(host, delivery)
        except (RedisError, OSError) as error:
            log.warning("webhook %s is put off: %s", delivery, error)
        except Exception:
            log.exception("webhook %s can't be sent", delivery)
        finally:
            host.circuit.given_up()
            self._held.discard(delivery)
            was_full = self._is_full
            host.running -= 1
            self._running -= 1
            self._count(answered, -1)
            if was_full:
                self._begin_in_turn()
            self._begin(host)

    async def _try(self, host: _Host, delivery: str) -> None:
        lease_s = self._caller.timeout_s + LEASE_S
        sending = await self._deliveries.attempt(
            delivery, token=secrets.token_hex(8), lease_ms=int(lease_s * 1000)
        )
        if sending is None:
            return
        until = time.monotonic() + lease_s
        if sending.gone:
            await self._write(until, sending, DeliveryState.DISABLED, None)
            return
        called = await self._caller.call(sending)
        if called.alive is not None:
            host.answers = called.attempt.status > 0
            if called.alive:
                host.circuit.succeeded()
            else:
                host.circuit.failed(time.monotonic())
        state, again_s = called.state, None
        if state is DeliveryState.WAITING:
            again_s = pause_s(
                self._schedule,
                sending.failures + 1,
                chance=self._chance(),
                retry_after_s=called.retry_after_s,
            )
            if again_s is None:
                state = DeliveryState.FAILED
        if state not in (DeliveryState.DELIVERED, DeliveryState.WAITING):
            log.warning("webhook %s to %s is over: %s", delivery, sending.url, state.value)
        await self._write(until, sending, state, called.attempt, again_s or 0.0)

    async def _write(
        self,
        until: float,
        sending: Sending,
        state: DeliveryState,
        attempt: Attempt | None,
        again_s: float = 0.0,
    ) -> None:
        """Record what came of it, as long as it is ours."""
        while True:
            try:
                await self._deliveries.attempted(
                    sending, state, attempt, again_ms=int(again_s * 1000), keep_ms=self._keep_ms
                )
            except (RedisError, OSError):
                if time.monotonic() + WRITE_AGAIN_S > until:
                    raise
                await asyncio.sleep(WRITE_AGAIN_S)
            else:
                return

    def _forget_hosts(self) -> None:
        if len(self._hosts) >= MOST_HOSTS:
            for name in [name for name, host in self._hosts.items() if host.idle]:
                del self._hosts[name]
