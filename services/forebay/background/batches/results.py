"""What came of a batch's lines, kept so that a kill loses none and repeats none.

    add ─▶ waiting ─▶ segments, durable ─▶ Redis: these lines are done, these segments count

A segment that Redis has not heard of counts for nothing: after a kill its lines run again, and what
ran already is told again by the same key. Segments carry their holder's mark, so that one who has
lost the batch overwrites nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from redis.exceptions import RedisError

from forebay.background.batches.usage import usage_of
from forebay.contract.errors import Unavailable
from forebay.records.batch_leases import Held
from forebay.storage.segments import Segments

log = logging.getLogger(__name__)

MOST_LINES: Final = 1_000
MOST_BYTES: Final = 4_000_000
LONGEST_S: Final = 2.0
"""What waits is kept when there is so much of it, or after so long."""

FULL_BYTES: Final = 16_000_000
"""With so much waiting, no further line begins: the file store is slower than the workers."""

AGAIN_S: Final = 1.0
"""Pause before a store that is out of reach is tried again."""

_SEGMENTS_OF_A_HOLDER: Final = 100_000


class Results:
    """Results of one batch.

    Args:
        held: the batch.
        out: the file of answers.
        err: the file of errors.
        moved: set whenever some have been kept.
        numbers: of this holder's segments.
    """

    def __init__(
        self,
        held: Held,
        out: Segments,
        err: Segments,
        moved: asyncio.Event,
        numbers: Iterator[int],
    ) -> None:
        self._held = held
        self._out = out
        self._err = err
        self._numbers = numbers
        self._lines: list[int] = []
        self._answers: list[bytes] = []
        self._errors: list[bytes] = []
        self._bytes = 0
        self._some = asyncio.Event()
        self._due = asyncio.Event()
        self._ends = False
        self._moved = moved

    @property
    def full(self) -> bool:
        """Whether too much waits already."""
        return self._bytes >= FULL_BYTES

    def add(self, line: int, text: bytes, *, is_answer: bool) -> None:
        """Take what came of a line.

        Args:
            line: from 0.
            text: the line of the file that it is to be in.
            is_answer: whether that is the file of answers.
        """
        self._lines.append(line)
        (self._answers if is_answer else self._errors).append(text)
        self._bytes += len(text)
        self._some.set()
        if len(self._lines) >= MOST_LINES or self._bytes >= MOST_BYTES:
            self._due.set()

    def end(self) -> None:
        """There are no more: `run` keeps what waits and returns."""
        self._ends = True
        self._some.set()
        self._due.set()

    async def run(self) -> None:
        """Keep what is added until the end.

        Raises:
            LeaseLost: another holds the batch.
        """
        while not (self._ends and not self._lines):
            await self._some.wait()
            if not self._due.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), LONGEST_S)
            if not self._ends:
                self._some.clear()
                self._due.clear()
            if self._lines:
                await self._keep()

    async def _keep(self) -> None:
        lines, self._lines = self._lines, []
        answers, self._answers = self._answers, []
        errors, self._errors = self._errors, []
        self._bytes = 0
        index = self._held.mark * _SEGMENTS_OF_A_HOLDER + next(self._numbers)
        while True:
            try:
                await asyncio.to_thread(self._write, index, answers, errors)
                usage = await asyncio.to_thread(usage_of, answers)
                await self._held.keep(
                    completed=len(answers),
                    failed=len(errors),
                    usage=usage,
                    out=index if answers else None,
                    err=index if errors else None,
                    lines=lines,
                )
                break
            except (Unavailable, RedisError, OSError) as error:
                log.warning("results of %s can't be kept yet: %s", self._held.id, error)
                await asyncio.sleep(AGAIN_S)
        self._moved.set()

    def _write(self, index: int, answers: Sequence[bytes], errors: Sequence[bytes]) -> None:
        if answers:
            self._out.put(index, answers)
        if errors:
            self._err.put(index, errors)
