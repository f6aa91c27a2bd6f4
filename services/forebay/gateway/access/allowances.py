"""How much each API key may still ask for: lent by Redis in slices, and spent here.

A slice is a twentieth of a second's worth of a key's requests a minute, one at least; what is not
spent within a second goes back. So with several gateways a key is never let more than its limit,
and at most a slice for each of them is out of the others' reach for a second. Requests at once are
lent until a time, so that those of a gateway that has died come back; where there are few, what is
free goes back at once, so that no gateway has them all.

Below 1,200 requests a minute that is a command a request; a key that is refused is refused here,
without one, until something is left.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Callable
from typing import Final

from forebay.gateway.errors import RateLimited
from forebay.gateway.reads import Reads
from forebay.records.api_keys import ApiKey, ApiKeys, Lent

SLICES_A_MINUTE: Final = 1_200
RETURN_S: Final = 1.0
LEASE_MS: Final = 5_000
KEPT_MS: Final = 120_000
FEW: Final = 64
"""Requests at once that are so few that what is free of them goes back at once."""

GATHER_S: Final = 0.02
"""How soon: several may be free by then."""

BUSY_MS: Final = 1_000
"""When to come again where too much is asked for at once: whoever is before may take any time."""

REMEMBERED_S: Final = 1.0
"""Longest that a refusal is gone by without asking again."""

Header = tuple[bytes, bytes]


class Allowance:
    """One key's, as this gateway has it.

    Args:
        key: whose.
        freed: told where one of few requests at once is free.

    Attributes:
        limits: as they were when something was lent last.
        left: requests that were lent and not spent.
        elsewhere: requests that there were for anybody besides, when something was lent last.
        slots: requests at once that were lent.
        running: requests at once.
    """

    def __init__(self, key: ApiKey, freed: Callable[["Allowance"], None]) -> None:
        self.key = key
        self.limits = key.limits
        policy = b'"minute";q=%d;w=60' % key.limits.requests_per_minute
        self._policy: Header = (b"ratelimit-policy", policy)
        self._freed = freed
        self.left = 0
        self.elsewhere = 0
        self.slots = 0
        self.running = 0
        self.most_running = 0
        self.touched_at = 0.0
        self.refused_until = 0.0
        self.refusal_ms = 0
        self.turn = asyncio.Lock()

    @property
    def is_enough(self) -> bool:
        """Whether another request may go on with what is here."""
        limits = self.limits
        return (self.left > 0 or not limits.requests_per_minute) and (
            self.running < self.slots or not limits.concurrency
        )

    def leave(self) -> None:
        """A request has been answered."""
        self.running -= 1
        if 0 < self.limits.concurrency < FEW:
            self._freed(self)

    def headers(self) -> tuple[Header, ...]:
        """What is left of the requests a minute, as draft-ietf-httpapi-ratelimit-headers has it."""
        most = self.limits.requests_per_minute
        if not most:
            return ()
        left = min(self.left + self.elsewhere, most)
        until_full = math.ceil((most - left) * 60 / most)
        return (self._policy, (b"ratelimit", b'"minute";r=%d;t=%d' % (left, until_full)))


class Allowances:
    """Lends and takes back.

    Args:
        keys: asks Redis.
        reads: how to.
        now: seconds that only go forward, from any start.
    """

    def __init__(
        self, keys: ApiKeys, reads: Reads, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._reads = reads
        self._now = now
        self._gateway = secrets.token_hex(8)
        self._by_key: dict[str, Allowance] = {}
        self._freed: set[Allowance] = set()
        self._is_free = asyncio.Event()

    async def take(self, key: ApiKey) -> Allowance | None:
        """Spend a request; None if the key has no limit. Who has it calls `leave`.

        Raises:
            RateLimited: there is none left, or too many are answered at once.
            Unavailable: that can't be told, as Redis is out of reach.
        """
        limits = key.limits
        if not limits.requests_per_minute and not limits.concurrency:
            return None
        allowance = self._by_key.get(key.id)
        if allowance is None or allowance.limits != limits:
            allowance = self._by_key[key.id] = Allowance(key, self._free)
        allowance.touched_at = self._now()
        if not allowance.is_enough:
            await self._fill(allowance)
        if limits.requests_per_minute:
            allowance.left -= 1
        allowance.running += 1
        allowance.most_running = max(allowance.most_running, allowance.running)
        return allowance

    async def run(self) -> None:
        """Give back what is not spent, and hold what is at work, until cancelled."""
        due = self._now() + RETURN_S
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_free.wait(), max(due - self._now(), GATHER_S))
            await asyncio.sleep(GATHER_S)
            self._is_free.clear()
            freed, self._freed = self._freed, set()
            for allowance in freed:
                allowance.most_running = allowance.running
                await self._settle(allowance)
            if self._now() >= due:
                for allowance in list(self._by_key.values()):
                    await self._settle(allowance)
                due = self._now() + RETURN_S

    def _free(self, allowance: Allowance) -> None:
        self._freed.add(allowance)
        self._is_free.set()

    async def _fill(self, allowance: Allowance) -> None:
        """Be lent what another request takes."""
        async with allowance.turn:
            if allowance.is_enough:
                return
            now = self._now()
            if now >= allowance.refused_until:
                limits = allowance.limits
                short = bool(limits.requests_per_minute) and allowance.left < 1
                wanted = max(limits.requests_per_minute // SLICES_A_MINUTE, 1) if short else 0
                lent = await self._lend(allowance, requests=wanted, slots=_more(allowance.running))
                if not allowance.is_enough:
                    wait_ms = lent.wait_ms if allowance.left < 1 and short else BUSY_MS
                    allowance.refusal_ms = wait_ms
                    allowance.refused_until = now + min(wait_ms / 1000, REMEMBERED_S)
            if not allowance.is_enough:
                raise _refusal(allowance, self._now())

    async def _settle(self, allowance: Allowance) -> None:
        idle = self._now() - allowance.touched_at
        if idle * 1000 > KEPT_MS and not allowance.running:
            self._by_key.pop(allowance.key.id, None)
            return
        unspent = allowance.left if idle >= RETURN_S else 0
        if not unspent and not allowance.slots:
            return
        async with allowance.turn:
            unspent = min(unspent, allowance.left)
            allowance.left -= unspent
            try:
                await self._lend(allowance, back=unspent, slots=allowance.most_running)
            except Exception:
                return
            allowance.most_running = allowance.running

    async def _lend(
        self, allowance: Allowance, *, requests: int = 0, back: int = 0, slots: int
    ) -> Lent:
        lent = await self._reads.run(
            lambda: self._keys.lend(
                allowance.key,
                self._gateway,
                requests=requests,
                back=back,
                slots=slots,
                lease_ms=LEASE_MS,
                kept_ms=KEPT_MS,
            )
        )
        allowance.left += lent.requests
        allowance.elsewhere = lent.left
        allowance.slots = lent.slots
        return lent


def _more(running: int) -> int:
    """Requests at once that are asked for where so many run and one more is to."""
    return running + max(1, running // 4)


def _refusal(allowance: Allowance, now: float) -> RateLimited:
    limits, left_ms = allowance.limits, int((allowance.refused_until - now) * 1000)
    wait_ms = max(allowance.refusal_ms, left_ms, 1)
    if limits.requests_per_minute and allowance.left < 1:
        message = (
            f"This API key may make {limits.requests_per_minute:,} requests a minute, and has made "
            "them. Wait, or spread them more evenly."
        )
    else:
        message = (
            f"This API key may have {limits.concurrency:,} requests answered at once. Wait until "
            "one of them is."
        )
    return RateLimited(message, wait_ms=wait_ms, headers=allowance.headers())
