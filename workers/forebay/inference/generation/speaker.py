"""Hands over chunks: those of all streams in one call, as often as Redis takes one.

While a call is under way further steps add to the next one, so a slow Redis makes chunks longer
and never holds the engine up. What is handed over stays so: a call that failed is repeated with
the same chunks.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from forebay.contract.generation import Chunk
from forebay.inference.assembly import Assembly
from forebay.inference.generation.growing import Growing
from forebay.inference.trouble import Trouble
from forebay.lanes.consumer import LeaseId
from forebay.lanes.events import Told, Written, tell, written
from forebay.lanes.keys import LaneKeys
from forebay.lanes.scripts import TellOutcome
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
"""Pause after Redis failed a command."""

Leave = Callable[[set[LeaseId]], None]


class Speech:
    """What is told of one delivery.

    Attributes:
        sequence: of its next chunk.
        rows: that are told of.
    """

    __slots__ = ("rows", "sequence")

    def __init__(self) -> None:
        self.sequence = 1
        self.rows: list[Growing] = []


class Speaker:
    """Tells what one model generates.

    Args:
        redis: client whose commands are not retried, for this alone.
        keys: of the model's shard.
        version: short digest of the artifact.
        run_s: how long a prediction may run.
    """

    def __init__(self, redis: Commands, keys: LaneKeys, *, version: str, run_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._version = version
        self._run_ms = int(run_s * 1000)
        self._speeches: dict[Assembly, Speech] = {}
        self._news = asyncio.Event()
        self._trouble = Trouble(log, "telling what is generated")

    async def recall(self, assembly: Assembly) -> Written:
        """What another worker has told of a delivery.

        Raises:
            msgspec.MsgspecError: that is damaged.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        return await written(self._redis, self._keys, assembly.delivery.prediction)

    def begin(self, growing: Growing, *, after: int) -> None:
        """A text's chunks are to be told.

        Args:
            growing: the text.
            after: sequence of the last chunk that another worker has told of its prediction.
        """
        speech = self._speeches.setdefault(growing.ref.assembly, Speech())
        speech.sequence = max(speech.sequence, after + 1)
        speech.rows.append(growing)

    def forget(self, assembly: Assembly) -> None:
        """Nothing more is to be told of it."""
        self._speeches.pop(assembly, None)

    def tells(self, growing: Growing) -> bool:
        """Whether a text's chunks are to be told."""
        return growing.ref.assembly in self._speeches

    def look(self) -> None:
        """Texts have grown."""
        self._news.set()

    async def run(self, *, lose: Leave, drop: Leave, stop: Callable[[Assembly], None]) -> None:
        """Tell until cancelled.

        Args:
            lose: called with leases that are no longer this worker's.
            drop: called with leases whose prediction has ended.
            stop: called with deliveries whose reader is gone, and whom nobody can come back for.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            chunks = self._next()
            if not chunks:
                continue
            outcomes = await self._told(chunks)
            for assembly, outcome in zip(chunks, outcomes, strict=True):
                lease = assembly.delivery.lease
                match outcome:
                    case TellOutcome.TOLD:
                        self._end_finished(assembly)
                    case TellOutcome.UNREAD:
                        stop(assembly)
                    case TellOutcome.STALE:
                        lose({lease})
                    case TellOutcome.ENDED | TellOutcome.GONE:
                        drop({lease})

    def _next(self) -> dict[Assembly, list[Chunk]]:
        """All that is not yet told."""
        chunks: dict[Assembly, list[Chunk]] = {}
        for assembly, speech in self._speeches.items():
            for growing in speech.rows:
                chunk = growing.next_chunk(speech.sequence)
                if chunk is not None:
                    speech.sequence += 1
                    chunks.setdefault(assembly, []).append(chunk)
        return chunks

    async def _told(self, chunks: dict[Assembly, list[Chunk]]) -> list[TellOutcome]:
        while True:
            told = [
                # A lease that was taken back has a new attempt.
                Told(assembly.delivery, tuple(some), last=self._all_finished(assembly))
                for assembly, some in chunks.items()
            ]
            try:
                outcomes = await tell(
                    self._redis, self._keys, told, version=self._version, run_ms=self._run_ms
                )
            except (RedisError, OSError) as error:
                # Safe to repeat: what is kept already stays as it is.
                self._trouble.report(error)
                await asyncio.sleep(RETRY_S)
            else:
                self._trouble.over()
                return outcomes

    def _all_finished(self, assembly: Assembly) -> bool:
        speech = self._speeches.get(assembly)
        return speech is not None and all(growing.finished for growing in speech.rows)

    def _end_finished(self, assembly: Assembly) -> None:
        speech = self._speeches.get(assembly)
        for growing in () if speech is None else speech.rows:
            if growing.finished and not growing.untold:
                growing.end()
