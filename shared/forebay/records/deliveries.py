"""Deliveries: what is to be sent to receivers, how often that was tried, and what came of it.

    deliver ─▶ waiting ─attempt─▶ attempted ─┬─▶ delivered, failed, refused, disabled
                  ▲                          │                         │
                  ├──────── overdue ◀────────┘                         │
                  └──────────────────────── replay ◀───────────────────┘

The record is the truth. Messages that say «send this» may be lost or come twice: what was lost is
due again, and one attempt is under way at a time.
"""

import time
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec

from forebay.contract.notices import Attempt, Delivery, DeliveryState
from forebay.lanes.keys import Keys
from forebay.records.keys import webhook_keys
from forebay.runtime.redis import Arg, Commands, Script, now_ms

HANDED_MS = 5_000
"""A delivery that somebody was told to send is due again after this, should that be lost."""

MOST_ATTEMPTS = 25
"""Attempts told of in a delivery's record, the last ones: two runs through the longest schedule."""

MOST_GONE = 10_000
"""Receivers remembered that want no more."""

MOST_A_HOST = 10_000
"""Deliveries that wait for one host; more have failed at once, and can be replayed."""

TOO_MANY = f"{MOST_A_HOST:,} webhooks wait for this host already. Replay this one when it is back."

PAGE = 200
"""Deliveries read in one go."""

_SCRIPTS = "forebay.records.scripts"
_deliver = Script(_SCRIPTS, "deliver", adds=True, before=("waits",))
_overdue = Script(_SCRIPTS, "overdue", before=("waits",))
_attempt = Script(_SCRIPTS, "attempt")
_attempted = Script(_SCRIPTS, "attempted", before=("waits",))
_redeliver = Script(_SCRIPTS, "redeliver", before=("waits",))


class Sending(msgspec.Struct, frozen=True):
    """A delivery that is taken for one attempt.

    Attributes:
        id: of the delivery.
        token: of who took it.
        url: the receiver.
        content_type: of the body.
        body: as it is sent.
        failures: so far.
        gone: the receiver has said that it wants no more.
        trace: what it belongs to, where that is recorded, as messages have it.
    """

    id: str
    token: str
    url: str
    content_type: str
    body: bytes
    failures: int
    gone: bool
    trace: str = ""


class Told(msgspec.Struct, frozen=True):
    """A delivery as operators see it.

    Attributes:
        made_at_ms: Unix time in ms; likewise `due_at_ms`.
        failures: since it was made or replayed.
        due_at_ms: when somebody looks after it next; None where it is over.
        attempts: the last ones, oldest first.
    """

    delivery: Delivery
    state: DeliveryState
    made_at_ms: int
    failures: int
    due_at_ms: int | None
    attempts: tuple[Attempt, ...]


class Deliveries:
    """Reads and writes deliveries.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.

    Every method raises what the server or the connection does, a `redis.exceptions.RedisError`.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = webhook_keys(keys)

    async def deliver(
        self, deliveries: Sequence[tuple[Delivery, str]], *, keep_ms: int
    ) -> list[bool]:
        """Record deliveries; which of them are to be sent, and were not there yet.

        Args:
            deliveries: each with its receiver's host.
            keep_ms: how long one is kept that has failed, as too many wait for its host.
        """
        if not deliveries:
            return []
        full = Attempt(int(time.time() * 1000), 0, error=TOO_MANY)
        args: list[Arg] = [HANDED_MS, MOST_A_HOST, msgspec.json.encode(full), keep_ms]
        for one, host in deliveries:
            args += (one.id, one.subject, one.event, one.url, host, one.content_type, one.body)
            args.append(one.trace)
        records = [self._keys.delivery(one.id) for one, _ in deliveries]
        made = await _deliver.call(
            self._redis,
            [self._keys.due, self._keys.deliveries, self._keys.waits, *records],
            args,
        )
        return [bool(new) for new in made]

    async def overdue(self, *, most: int, longest_ms: int, keep_ms: int) -> list[tuple[str, str]]:
        """Deliveries that are due, with their hosts, to be sent by whoever asks.

        Args:
            most: of them.
            longest_ms: how long one may wait until it has failed.
            keep_ms: how long it is kept then.
        """
        flat = cast(
            list[bytes],
            await _overdue.call(
                self._redis,
                [self._keys.due, self._keys.waits],
                [HANDED_MS, most, longest_ms, self._keys.records, keep_ms],
            ),
        )
        texts = [text.decode() for text in flat]
        return list(zip(texts[::2], texts[1::2], strict=True))

    async def waiting(self) -> int:
        """How many are not over."""
        return int(await self._redis.execute_command("ZCARD", self._keys.due))

    async def attempt(self, delivery: str, *, token: str, lease_ms: int) -> Sending | None:
        """Take a delivery for one attempt; None if it is over, gone, or another's."""
        found = await _attempt.call(
            self._redis,
            [self._keys.delivery(delivery), self._keys.due, self._keys.gone],
            [delivery, token, lease_ms],
        )
        if found is None:
            return None
        url, content_type, body, failures, gone, trace = found
        return Sending(
            delivery,
            token,
            url.decode(),
            content_type.decode(),
            body,
            failures,
            bool(gone),
            trace.decode(),
        )

    async def attempted(
        self,
        sending: Sending,
        state: DeliveryState,
        attempt: Attempt | None,
        *,
        again_ms: int = 0,
        keep_ms: int,
    ) -> bool:
        """Record what came of an attempt; False if the delivery had gone to another meanwhile.

        Args:
            sending: as it was taken.
            state: of the delivery from now on.
            attempt: None where none was made.
            again_ms: from now, where it is to be tried again.
            keep_ms: how long it is kept, where it is not.
        """
        line = b"" if attempt is None else msgspec.json.encode(attempt)
        return bool(
            await _attempted.call(
                self._redis,
                [
                    *(self._keys.delivery(sending.id), self._keys.due),
                    *(self._keys.gone, self._keys.waits),
                ],
                [
                    *(sending.id, sending.token, state.value, again_ms, keep_ms),
                    *(line, MOST_ATTEMPTS, MOST_GONE),
                ],
            )
        )

    async def postpone(self, deliveries: Sequence[str], by_ms: Sequence[int]) -> None:
        """Look after these later, each in so many ms, unless they are over."""
        if not deliveries:
            return
        at_ms = await now_ms(self._redis)
        pairs: list[Arg] = []
        for delivery, ms in zip(deliveries, by_ms, strict=True):
            pairs += (at_ms + ms, delivery)
        await self._redis.execute_command("ZADD", self._keys.due, "XX", *pairs)

    async def replay(self, delivery: str) -> bool:
        """Have one tried again, under the same id; False if there is none, or no longer."""
        return bool(
            await _redeliver.call(
                self._redis,
                [self._keys.delivery(delivery), self._keys.due, self._keys.waits],
                [delivery],
            )
        )

    async def told(self, delivery: str) -> Told | None:
        """A delivery; None if there is none, or no longer.

        Raises:
            msgspec.MsgspecError: its record is damaged.
        """
        flat = await self._redis.execute_command("HGETALL", self._keys.delivery(delivery))
        if not flat:
            return None
        if not isinstance(flat, dict):
            flat = dict(zip(flat[::2], flat[1::2], strict=True))
        due = await self._redis.execute_command("ZSCORE", self._keys.due, delivery)
        return _told(delivery, flat, None if due is None else int(float(due)))

    async def newest(self) -> AsyncIterator[Told]:
        """All deliveries, newest first."""
        first = 0
        while True:
            ids = cast(
                list[bytes],
                await self._redis.execute_command(
                    "ZREVRANGE", self._keys.deliveries, first, first + PAGE - 1
                ),
            )
            for id_ in ids:
                if (told := await self.told(id_.decode())) is not None:
                    yield told
            if len(ids) < PAGE:
                return
            first += PAGE

    async def tidy(self, *, older_than_ms: int, most: int) -> int:
        """Drop what is over and beyond the bounds, the oldest first; returns how many.

        Records go by themselves in time; then their ids are left.

        Args:
            older_than_ms: age from which ids are looked at.
            most: deliveries that are kept, as far as they are over.
        """
        oldest_ms = await now_ms(self._redis) - older_than_ms
        excess = int(await self._redis.execute_command("ZCARD", self._keys.deliveries)) - most
        dropped = first = 0
        while True:
            flat = cast(
                list[bytes],
                await self._redis.execute_command(
                    "ZRANGE", self._keys.deliveries, first, first + PAGE - 1, "WITHSCORES"
                ),
            )
            over: list[str] = []
            looked = 0
            for id_, at in zip(flat[::2], flat[1::2], strict=True):
                if dropped + len(over) >= excess and float(at) >= oldest_ms:
                    break  # this one may stay, and so may all that are younger
                looked += 1
                if await self._is_over(id_.decode()):
                    over.append(id_.decode())
            if over:
                records = [self._keys.delivery(id_) for id_ in over]
                await self._redis.execute_command("UNLINK", *records)
                await self._redis.execute_command("ZREM", self._keys.deliveries, *over)
                dropped += len(over)
            if looked < PAGE:
                return dropped
            first += looked - len(over)

    async def _is_over(self, delivery: str) -> bool:
        record = self._keys.delivery(delivery)
        state = await self._redis.execute_command("HGET", record, "st")
        return state is None or state != DeliveryState.WAITING.value.encode()

    async def gone(self) -> list[str]:
        """Receivers that want no more, the newest first."""
        found = await self._redis.execute_command("ZREVRANGE", self._keys.gone, 0, -1)
        return [url.decode() for url in found]

    async def welcome_back(self, url: str) -> bool:
        """Call a receiver again that wanted no more; False if it had not said so."""
        return bool(await self._redis.execute_command("ZREM", self._keys.gone, url))


_attempts = msgspec.json.Decoder(Attempt)


def _told(id_: str, fields: dict[bytes, bytes], due_at_ms: int | None) -> Told:
    lines = fields.get(b"l", b"").split(b"\n")
    return Told(
        Delivery(
            id_,
            fields[b"p"].decode(),
            fields[b"e"].decode(),
            fields[b"u"].decode(),
            fields[b"b"],
            fields[b"ct"].decode(),
        ),
        DeliveryState(fields[b"st"].decode()),
        int(fields[b"at"]),
        int(fields[b"n"]),
        due_at_ms,
        tuple(_attempts.decode(line) for line in lines if line),
    )
