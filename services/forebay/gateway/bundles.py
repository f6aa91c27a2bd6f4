"""Small requests of one model as one prediction, where nobody waits for any of them.

    requests ─same version, options and patience─▶ Bundle ─▶ one prediction ─▶ outputs of each
                                                     └─ it fails by a row ─▶ halves ─▶ each alone

A lease, a record, a reply and their bookkeeping cost about as much for one row as for many: for a
small model as much as the row itself. Requests that come in one turn of the event loop share them.

A bundle has an id of its own. Who asks again for what was in one, because the asker was killed, has
its rows run again: so it is only for models whose rows may be run for several at once.
"""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from forebay.contract.errors import ErrorKind, ForebayError
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane, PredictionId
from forebay.contract.rows import Options, Task, row_bytes
from forebay.gateway.errors import ClientGone
from forebay.gateway.patience import Patience
from forebay.gateway.streaming import Outcome
from forebay.gateway.waits import WhenGone
from forebay.gateway.work import Request

MOST_ROWS: Final = 32
"""Of a bundle; a request with more than half of that gains nothing by company."""

MOST_BYTES: Final = 65_536
"""Of a bundle's rows: it stays one part, and is quickly read."""

FEWEST: Final = 32
"""Rows of a model that are under way make so many bundles at least: each of its workers is to get
some."""

_HALVED: Final = frozenset({ErrorKind.INVALID_INPUT, ErrorKind.TOO_LONG, ErrorKind.BACKEND_FAILED})
"""A row is at fault, and found quickly: others get their outputs in halves of the bundle."""

_APART: Final = frozenset({ErrorKind.WORKER_LOST, ErrorKind.INTERNAL})
"""A row may be at fault, and costs much each time: each request is tried alone."""

RunRequest = Callable[[Request, WhenGone | None], Awaitable[Outcome]]
"""Has a request run, and waits for what becomes of it."""


class _Kind(msgspec.Struct, frozen=True):
    """What requests of one bundle have in common."""

    model: str
    version: str
    truncate: bool
    options: Options
    patience: Patience
    caller: str


class _Member:
    """A request in a bundle."""

    __slots__ = ("bundle_gone", "future", "request", "size")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.size = sum(map(row_bytes, request.rows))
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.bundle_gone: Callable[[], None] | None = None

    def leave(self) -> None:
        """Whoever asked has gone."""
        if not self.future.done():
            self.future.set_exception(ClientGone())
            if self.bundle_gone is not None:
                self.bundle_gone()


class Bundles:
    """Gathers requests, and has them run together.

    Args:
        run: runs one request.
    """

    def __init__(self, run: RunRequest) -> None:
        self._run = run
        self._gathered: dict[_Kind, list[_Member]] = {}
        self._rows: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, request: Request, when_gone: WhenGone | None) -> Outcome:
        """Run a request, with others if there are any.

        Args:
            request: that `may_join`.
            when_gone: asks to be told if whoever asks goes away.

        Raises:
            ForebayError: by kind, what kept its rows from being run, or one of them from
                succeeding; `row` is its index in the request.
        """
        kind = _Kind(
            request.model.name,
            request.spec.name,
            request.truncate,
            request.options,
            request.patience,
            request.caller,
        )
        request.asker = (
            None  # who is asked to tell when the client goes: they would hold each other
        )
        member = _Member(request)
        if when_gone is not None:
            when_gone(member.leave)
        gathered = self._gathered.get(kind)
        if gathered is None:
            gathered = self._gathered[kind] = []
            asyncio.get_running_loop().call_soon(self._flush, kind)
        gathered.append(member)
        rows = len(request.rows)
        self._rows[kind.version] += rows
        try:
            return await member.future
        finally:
            self._rows[kind.version] -= rows

    def _flush(self, kind: _Kind) -> None:
        """Run what was gathered in this turn of the loop, in bundles of about one size."""
        members = self._gathered.pop(kind)
        most = min(max(self._rows[kind.version] // FEWEST, 1), MOST_ROWS)
        some: list[_Member] = []
        rows = size = 0
        for member in members:
            more = len(member.request.rows)
            if some and (rows + more > most or size + member.size > MOST_BYTES):
                self._start(some)
                some, rows, size = [], 0, 0
            some.append(member)
            rows += more
            size += member.size
        self._start(some)

    def _start(self, members: list[_Member]) -> None:
        task = asyncio.create_task(self._together(members), name="bundle")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _together(self, members: list[_Member]) -> None:
        members = [member for member in members if not member.future.done()]
        if not members:
            return
        request = _joint([member.request for member in members])
        try:
            outcome = await self._run(request, functools.partial(_tell_when_all_gone, members))
        except ForebayError as error:
            if len(members) > 1 and error.kind in _HALVED:
                middle = len(members) // 2
                self._start(members[:middle])
                self._start(members[middle:])
            elif len(members) > 1 and error.kind in _APART:
                for member in members:
                    self._start([member])
            else:
                _fail(members, error)
        except asyncio.CancelledError:
            for member in members:
                member.future.cancel()
            raise
        except Exception as error:
            _fail(members, error)
        else:
            _share_out(members, outcome)
        finally:
            for member in members:
                member.bundle_gone = None  # it knows them all: a circle, with all their outputs


def may_join(request: Request) -> bool:
    """Whether a request may be run together with others."""
    spec: ModelSpec = request.spec
    return (
        request.lane is Lane.BULK
        and spec.joins
        and spec.task is not Task.GENERATION
        and not spec.cache.enabled  # which is asked for each request
        and not (request.name is not None and request.name.claimed)
        and len(request.rows) <= MOST_ROWS // 2
    )


def _joint(requests: list[Request]) -> Request:
    """One request with the rows of all."""
    first = requests[0]
    if len(requests) == 1:
        return first
    return msgspec.structs.replace(
        first,
        id=PredictionId.new(first.spec.name),
        rows=tuple(itertools.chain.from_iterable(request.rows for request in requests)),
        name=None,
    )


def _tell_when_all_gone(members: list[_Member], gone: Callable[[], None]) -> None:
    """Call `gone` once nobody waits for any of these."""

    def left() -> None:
        if all(member.future.done() for member in members):
            gone()

    for member in members:
        member.bundle_gone = left


def _share_out(members: list[_Member], outcome: Outcome) -> None:
    first = 0
    for member in members:
        after = first + len(member.request.rows)
        if not member.future.done():
            outputs = outcome.outputs[first:after]
            member.future.set_result(msgspec.structs.replace(outcome, outputs=outputs))
        first = after


def _fail(members: list[_Member], error: Exception) -> None:
    for member in members:
        if not member.future.done():
            member.future.set_exception(error)
