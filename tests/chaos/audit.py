"""What became of predictions: in Redis, on the reply channels, and as a gateway shows them."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.contract.messages import decode_replies
from forebay.contract.prediction import TERMINAL, Lane
from forebay.lanes.depth import counters, depth
from forebay.lanes.keys import GROUP, Keys, LaneKeys
from forebay.runtime.redis import Commands, connect, now_ms
from tests.chaos.clients import Http, Load, Told, read_all
from tests.chaos.outcome import Outcome, Tally
from tests.fixtures.waiting import eventually

TIMEOUT_S = 5.0
POLL_S = 0.5
AT_ONCE = 500
ENDED = frozenset(status.value.encode() for status in TERMINAL)
FIELDS = """
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('HMGET', key, unpack(ARGV)) end
return found
"""
KEYS = "return redis.call('KEYS', ARGV[1])"
"""Both run where the model's keys are: on a cluster, too."""

End = tuple[bytes, bytes, int]
"""Status and time of a record that has ended, and a hash of its reply."""


class Audit:
    """Watches a model's predictions from beside the system.

    Attributes:
        client: a client of the auditor's own.
        keys: of the model.

    Args:
        url: of the server.
        keys: key builder.
        model: its name.
    """

    def __init__(self, url: str, keys: Keys, model: str = "echo") -> None:
        self._redis: Redis = connect(url, timeout_s=TIMEOUT_S)
        self.client: Commands = self._redis
        self.keys: LaneKeys = keys.of(model)
        self._channels = keys.reply_channel("*")
        self._published: Counter[tuple[bytes, str, int]] = Counter()
        self._ends: dict[str, End] = {}
        self._changed: set[str] = set()
        self._listener = asyncio.create_task(self._listen())

    async def aclose(self) -> None:
        """Stop watching."""
        self._listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listener
        await self._redis.aclose()

    async def ended(self, ids: Iterable[str], *, within_s: float) -> list[str]:
        """Wait until these have ended; returns those that have not."""
        left = list(ids)
        until = time.monotonic() + within_s
        while True:
            with contextlib.suppress(RedisError, OSError):
                left = await self._look(left)
            if not left or time.monotonic() > until:
                return left
            await asyncio.sleep(POLL_S)

    async def watch(self, load: Load) -> None:
        """Note how predictions end while they come, until cancelled."""
        while True:
            await self.ended([id_ for id_ in load.values if id_ not in self._ends], within_s=0)
            await asyncio.sleep(POLL_S)

    async def _look(self, ids: list[str]) -> list[str]:
        """Note which have ended, and how; returns the others."""
        left: list[str] = []
        for id_, (status, at, reply) in (await self._fields(ids, "st", "ft", "o0")).items():
            if status not in ENDED:
                left.append(id_)
                continue
            end = (status, at, hash(reply))
            if self._ends.setdefault(id_, end) != end:
                self._changed.add(id_)
        return left

    async def _fields(self, ids: list[str], *names: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            records = [self.keys.record(id_) for id_ in some]
            told = await self.client.execute_command("EVAL", FIELDS, len(some), *records, *names)
            found.update(zip(some, told, strict=True))
        return found

    async def attempts(self, ids: Iterable[str]) -> dict[str, int]:
        """How often each was leased."""
        found = await self._fields(list(ids), "a0")
        return {id_: int(attempt or 1) for id_, (attempt,) in found.items()}

    async def strikes(self, ids: Iterable[str]) -> dict[str, int]:
        """How many workers each is suspected of."""
        found = await self._fields(list(ids), "k0")
        return {id_: int(strikes or 0) for id_, (strikes,) in found.items()}

    async def ended_early(self, ids: Iterable[str]) -> int:
        """How many ended before their deadline."""
        found = await self._fields(list(ids), "ft", "dl")
        return sum(int(at) < int(deadline) for at, deadline in found.values() if at)

    async def dead_letters(self) -> list[dict[str, str]]:
        """Dead letters, but for their payload."""
        letters = await self.client.execute_command("XRANGE", self.keys.dead, "-", "+")
        told = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in letters]
        return [
            {name.decode(): value.decode() for name, value in one.items() if name != b"m"}
            for one in told
        ]

    async def counters(self) -> dict[str, int]:
        """How many predictions ended how, and how many results were dropped."""
        return await counters(self.client, self.keys)

    async def demand(self) -> int:
        """Rows waiting, ready and leased."""
        told = await depth(self.client, self.keys, now_ms=0)
        return told.realtime + told.bulk

    async def used_memory(self) -> int:
        """What the server holds, in bytes."""
        told: bytes = await self.client.execute_command("INFO", "memory")
        lines = dict(line.split(b":", 1) for line in told.split(b"\r\n") if b":" in line)
        return int(lines[b"used_memory"])

    async def present(self) -> list[str]:
        """Names of workers that are present."""
        names = await self.client.execute_command(
            "ZRANGEBYSCORE", self.keys.workers, await now_ms(self.client), "+inf"
        )
        return [name.decode() for name in names]

    async def leased(self, pid: int | None = None) -> list[str]:
        """Predictions whose lease some worker, or the one of that process, has."""
        found: list[str] = []
        for lane in Lane:
            stream = self.keys.lane(lane)
            pending = await self.client.execute_command("XPENDING", stream, GROUP, "-", "+", 5000)
            for entry, worker, *_ in pending:
                if pid is not None and f"-{pid}-" not in worker.decode():
                    continue
                (kept,) = await self.client.execute_command("XRANGE", stream, entry, entry) or [
                    None
                ]
                if kept is not None:
                    found.append(kept[1][1].decode().rpartition(".")[0])
        return found

    async def tally(
        self, load: Load, gateway: Http, outcome: Outcome, *, forgets: bool = False
    ) -> dict[str, Told]:
        """Count what became of a load, and note what is not as it must be, whatever happened.

        Args:
            load: it has come to its end.
            gateway: shows the results.
            outcome: takes the count.
            forgets: the server may have forgotten what it was told last. Then the scenario says
                what may be lost, and what had ended may end once more, in the same way.

        Returns:
            The predictions as the gateway shows them.
        """
        told = await read_all(gateway, list(load.values))
        await self._look(list(load.values))
        tally = outcome.tally = Tally(accepted=len(load.values))
        wrong = contradicted = 0
        for id_, value in load.values.items():
            shown, answer = told.get(id_), load.answers.get(id_)
            if shown is None or not shown.terminal:
                tally.lost += 1
            elif shown.status == "succeeded" and shown.output == value:
                tally.succeeded += 1
            else:
                tally.failed += 1
                wrong += shown.status == "succeeded"
            contradicted += answer is not None and answer != shown
        ours = {id_ for (_, id_, _), count in self._published.items() if count > 1}
        uncounted = await self._uncounted()
        tally.twice = len(ours | self._changed) + contradicted + uncounted
        forgotten = len(ours | self._changed) if forgets else 0
        tally.rerun = sum(n > 1 for n in (await self.attempts(load.values)).values())
        outcome.promise(not wrong, f"{wrong} outputs are another's")
        outcome.promise(forgets or not tally.lost, f"{tally.lost} accepted predictions are lost")
        outcome.promise(
            not (tally.twice - forgotten),
            f"seen twice: {len(ours)} published, {len(self._changed)} changed, {contradicted} told "
            f"otherwise, {uncounted} too many or too few counted",
        )
        outcome.promise(not load.hung, f"{load.hung} clients were left hanging")
        await self.emptied(outcome)
        return told

    async def _uncounted(self) -> int:
        """By how many the counters differ from the records that have ended."""
        counted = await self.counters()
        found = await self._fields(await self.recorded(), "st")
        ends = Counter(status.decode() for (status,) in found.values() if status in ENDED)
        return sum(abs(counted.get(status, 0) - ends[status.value]) for status in TERMINAL)

    async def recorded(self) -> list[str]:
        """Every prediction there is a record of, acknowledged or not."""
        keys = await self.client.execute_command(
            "EVAL", KEYS, 1, self.keys.demand, f"{self.keys.records}*"
        )
        return [key.decode().removeprefix(self.keys.records) for key in keys]

    async def comes_to_rest(self) -> None:
        """Wait until nothing is under way; if that never comes, `emptied` tells what is left."""

        async def at_rest() -> bool:
            return await self.demand() == 0

        with contextlib.suppress(AssertionError):
            await eventually(at_rest)

    async def emptied(self, outcome: Outcome) -> None:
        """Note what is left on the lanes."""
        demand = await self.demand()
        entries = [await self.client.execute_command("XLEN", self.keys.lane(lane)) for lane in Lane]
        outcome.promise(demand == 0, f"the demand counters end at {demand} rows instead of 0")
        outcome.promise(not any(entries), f"the lanes still hold {sum(entries)} entries")
        turns = [self.keys.turns(lane) for lane in Lane]
        callers = [await self.client.execute_command("LLEN", key) for key in turns]
        outcome.promise(not any(callers), f"{sum(callers)} callers still wait for a turn")

    async def _listen(self) -> None:
        """Count what is published for each part of a prediction, by channel."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._redis.pubsub() as channels:
                    await channels.psubscribe(self._channels)
                    async for message in channels.listen():
                        if message["type"] == "pmessage":
                            for reply in decode_replies(message["data"]):
                                to = message["channel"], reply.prediction, reply.part
                                self._published[to] += 1
            await asyncio.sleep(POLL_S)
