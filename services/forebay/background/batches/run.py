"""The lines of a batch in flight: begun as the window has room, asked again while nobody has it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import IO, Any, Final

import msgspec

from forebay.background.batches.halt import Halt
from forebay.background.batches.lines import LineRequest, each_line, read_lines, request_of
from forebay.background.batches.rendering import EXPIRED, STREAM_FAULT, answer_line, error_line
from forebay.background.batches.results import Results
from forebay.background.batches.window import Window
from forebay.contract.asking import Answered, Asking
from forebay.contract.batches import Batch, BatchStatus
from forebay.contract.errors import Unavailable
from forebay.records.batch_leases import Progress
from forebay.storage.lines import Line

ASK_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""The lane is full, Redis is away, a model is unloaded: nothing was done, and it passes."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 10.0
"""Before it is asked again."""

WITHDRAW_S: Final = 0.5
"""A line that is on its way to its lane can't be withdrawn; it is tried again after so long."""


class _Flags(msgspec.Struct, frozen=True):
    """What a request of a batch may not ask for; anything else is its endpoint's to judge."""

    stream: Any = None
    background: Any = None

    @property
    def wrong(self) -> bool:
        return self.stream is True or self.background is True


_flags = msgspec.json.Decoder(_Flags)


class Run:
    """Runs what is left of a batch.

    Args:
        batch: that is in progress.
        file: its lines.
        progress: how far it was brought before.
        asking: what answers.
        window: how many lines may be in flight.
        results: takes what comes of them.
        halt: says when to stop.
        moved: set whenever there may be room for another line.
        max_body_bytes: the largest body that is taken.
    """

    def __init__(
        self,
        batch: Batch,
        file: IO[bytes],
        *,
        progress: Progress,
        asking: Asking,
        window: Window,
        results: Results,
        halt: Halt,
        moved: asyncio.Event,
        max_body_bytes: int,
    ) -> None:
        self._batch = batch
        self._file = file
        self._progress = progress
        self._asking = asking
        self._window = window
        self._results = results
        self._halt = halt
        self._max_body_bytes = max_body_bytes
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._recorded: set[int] = set()
        self._moved = moved

    async def run(self) -> None:
        """Run lines until all are done, or it is time to halt; then all that began has ended.

        Of a batch that has expired, the other lines are told as errors.

        Raises:
            LeaseLost: another holds the batch.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._results.run(), name=f"results of {self._batch.id}")
            self._window.join()
            try:
                await self._feed(group)
                await self._drain()
            finally:
                self._window.leave()
            if self._halt.why is BatchStatus.EXPIRED:
                await self._expire()
            self._results.end()

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        async for line in self._left():
            await self._room(len(line.text))
            if self._halt.why is not None:
                return
            key = self._key(line)
            task = group.create_task(self._line(line, key), name=key)
            self._in_flight[key] = task
            self._window.begin(len(line.text))

    async def _left(self) -> AsyncIterator[Line]:
        """Lines that are not done, from the first."""
        lines = read_lines(self._file, max_body_bytes=self._max_body_bytes)
        async for line in each_line(lines):
            at = line.number - 1
            if not self._progress.has(at):
                yield line

    async def _room(self, size: int) -> None:
        """Wait until a line may begin, or none is to any more."""
        again = False
        while self._halt.why is None and (
            self._results.full or not self._window.has_room(len(self._in_flight), size, again=again)
        ):
            again = True
            self._moved.clear()
            await self._moved.wait()

    async def _drain(self) -> None:
        """Wait for what is in flight; if it is time to halt, withdraw it."""
        while self._in_flight:
            if self._halt.why is None:
                self._moved.clear()
                await self._moved.wait()
                continue
            for key in tuple(self._in_flight):
                self._asking.withdraw(key)
            await asyncio.wait(tuple(self._in_flight.values()), timeout=WITHDRAW_S)

    async def _line(self, line: Line, key: str) -> None:
        try:
            request = request_of(line, self._batch.request.endpoint)
            answered = await self._answered(request, key)
            if answered is not None:
                text = answer_line(self._id(line), request.custom_id, answered)
                is_answer = answered.status < HTTPStatus.BAD_REQUEST
                self._record(line, text, is_answer=is_answer)
        finally:
            del self._in_flight[key]
            self._window.end(len(line.text))
            self._moved.set()

    async def _answered(self, request: LineRequest, key: str) -> Answered | None:
        """What a request was answered; None if it was withdrawn before."""
        body = bytes(request.body)
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if _flags.decode(body).wrong:
                return _refused()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                answered = await self._asking.answer(
                    request.url, body, key=key, behalf=self._batch.id
                )
            except Unavailable:
                answered = None
            if answered is not None and answered.status not in ASK_AGAIN:
                withdrawn = answered.status == HTTPStatus.CONFLICT and self._halt.why is not None
                return None if withdrawn else answered
            if self._halt.why is not None:
                return None
            told_s = 0.0 if answered is None else float(answered.headers.get("retry-after", 0))
            least_s = min(max(pause_s, told_s), LONGEST_PAUSE_S)
            jitter = random.uniform(1.0, 1.5)  # noqa: S311 - not a secret
            await self._halt.within(jitter * least_s)
            pause_s *= 2

    async def _expire(self) -> None:
        """Tell as errors of all lines that are not done."""
        async for line in self._left():
            if line.number - 1 in self._recorded:
                continue
            request = request_of(line, self._batch.request.endpoint)
            text = error_line(self._id(line), request.custom_id, "batch_expired", EXPIRED)
            while self._results.full:
                self._moved.clear()
                await self._moved.wait()
            self._record(line, text, is_answer=False)

    def _record(self, line: Line, text: bytes, *, is_answer: bool) -> None:
        self._recorded.add(line.number - 1)
        self._results.add(line.number - 1, text, is_answer=is_answer)

    def _key(self, line: Line) -> str:
        return f"{self._batch.id} {line.number}"

    def _id(self, line: Line) -> str:
        return f"batch_req_{self._batch.id.removeprefix('batch_')}{line.number:05d}"


def _refused() -> Answered:
    body = {
        "error": {
            "message": STREAM_FAULT,
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_input",
        }
    }
    return Answered(HTTPStatus.BAD_REQUEST, {}, msgspec.json.encode(body))
