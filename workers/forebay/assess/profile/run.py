"""Batches through a backend, with a profiler around them."""

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from forebay.assess.profile import by_torch, trace
from forebay.assess.profile.by_calls import Calls
from forebay.assess.profile.trace import Call
from forebay.contract.errors import InvalidInput
from forebay.contract.model import BatchLimits
from forebay.contract.rows import PairRow, Row, TextRow
from forebay.inference.backends.base import Backend, PreparedRow, Traced
from forebay.inference.batcher import Batcher
from forebay.inference.urgency import Urgency

LEAST_BATCHES = 20
"""Batches that are profiled at least: a few rows go round again."""

MOST_BATCHES = 400
"""And at most: a trace of more is larger than what viewers open."""


class Cost(msgspec.Struct, frozen=True):
    """What something took in all.

    Attributes:
        name: a stage, a kind of operator, or a node.
        calls: how often.
        total_ms: of all calls, without what they called.
        share: of all its like, 0..1.
        mean_us: of a call.
        kind: of a node.
        shapes: that a node had in its slowest call.
    """

    name: str
    calls: int
    total_ms: float
    share: float
    mean_us: float
    kind: str = ""
    shapes: str = ""


class Profile(msgspec.Struct, frozen=True):
    """Where the time of a model goes.

    Attributes:
        model: its name.
        version: as clients see it.
        by: what was profiled: `ONNX Runtime`, `torch`, or `Python calls`.
        batches: that were run, under the profiler.
        rows: in them.
        tokens: in them, without padding; rows where the model knows no tokens.
        stages: `prepare` (tokenize and check); then the `graph`, and `outputs`, which is all else
            in a forward pass: padding before it and outputs after it. Where the profiler can't tell
            these apart it is one stage, `run`. Times are those without the profiler.
        overhead: how much longer `run` took under the profiler, as a ratio.
        kinds: by kind of operator, the costliest first.
        nodes: by node, the costliest first.
    """

    model: str
    version: str
    by: str
    batches: int
    rows: int
    tokens: int
    stages: tuple[Cost, ...]
    overhead: float
    kinds: tuple[Cost, ...]
    nodes: tuple[Cost, ...]


def profile(
    model: str,
    backend: Backend,
    rows: Sequence[Row],
    limits: BatchLimits,
    *,
    batch_rows: int | None = None,
    trace_to: Path | None = None,
) -> Profile:
    """Run rows in batches, once to measure the stages and once under a profiler.

    Args:
        model: its name.
        backend: warm.
        rows: what to run; they go round again until there are batches enough.
        limits: of a batch, as a worker has them.
        batch_rows: so many rows in each batch instead, as they come.
        trace_to: keep the trace there.

    Raises:
        InvalidInput: a row is refused, or this model leaves no trace.
    """
    began = time.perf_counter()
    prepared = _prepared(backend, rows)
    prepare_s = time.perf_counter() - began
    batches = _batches(prepared, limits, batch_rows)
    rounds = max(1, -(-LEAST_BATCHES // len(batches)))
    batches = (batches * rounds)[:MOST_BATCHES]
    for batch in batches[: len(batches) // rounds]:
        backend.run(batch)  # what is paid once is paid here
    plain_s = _timed(backend, batches)
    found = _profiled(backend, batches, trace_to)
    run_rows = sum(map(len, batches))
    prepare_us, plain_us = prepare_s * run_rows / len(prepared) * 1e6, plain_s * 1e6
    whole_us = prepare_us + plain_us
    stages = [_cost("prepare", run_rows, prepare_us, whole_us)]
    if found.graph_us:
        graph_us = plain_us * min(1.0, found.graph_us / (found.seconds * 1e6))
        stages.append(_cost("graph", len(batches), graph_us, whole_us))
        stages.append(_cost("outputs", len(batches), plain_us - graph_us, whole_us))
    else:
        stages.append(_cost("run", len(batches), plain_us, whole_us))
    return Profile(
        model=model,
        version=backend.version,
        by=found.by,
        batches=len(batches),
        rows=run_rows,
        tokens=sum(row.length for batch in batches for row in batch),
        stages=tuple(stages),
        overhead=found.seconds / plain_s if plain_s else 1.0,
        kinds=_grouped(found.calls, by_kind=True),
        nodes=_grouped(found.calls, by_kind=False),
    )


def of_tokens(backend: Backend, row: Row, tokens: int) -> Row:
    """A row of about so many tokens: a row's text, over and over, as far as it fits.

    Raises:
        InvalidInput: the row has no text, or the model takes no such many.
    """
    if not isinstance(row, TextRow | PairRow):
        raise InvalidInput("--tokens is for models of texts.")
    words = row.text.split() or ["a"]

    def made(count: int) -> Row:
        text = " ".join((words * (count // len(words) + 1))[:count])
        return msgspec.structs.replace(row, text=text)

    def length(count: int) -> int:
        return _prepared(backend, [made(count)])[0].length

    low, high = 1, 2
    while length(high) < tokens:
        low, high = high, high * 2
        if high > 4 * tokens:
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if length(middle) <= tokens else (low, middle)
    return made(low)


def _prepared(backend: Backend, rows: Sequence[Row]) -> list[PreparedRow]:
    made: list[PreparedRow] = []
    for index, row in enumerate(backend.prepare(rows, truncate=True)):
        if not isinstance(row, PreparedRow):
            raise InvalidInput(f"Row {index} is refused: {row.message}")
        made.append(row)
    if not made:
        raise InvalidInput("There is no row to run.")
    return made


def _batches(
    rows: Sequence[PreparedRow], limits: BatchLimits, batch_rows: int | None
) -> list[list[PreparedRow]]:
    if batch_rows is not None:
        many = [*rows] * -(-batch_rows // len(rows))
        return [many[at : at + batch_rows] for at in range(0, len(many), batch_rows)]
    batches: list[list[PreparedRow]] = []
    batcher: Batcher[PreparedRow] = Batcher(limits)
    for start in range(0, len(rows), limits.prefetch_rows):
        for row in rows[start : start + limits.prefetch_rows]:
            batcher.add(Urgency.REALTIME, row, length=row.length, deadline_at_ms=0)
        while len(batcher):
            batches.append([one.item for one in batcher.next(0).rows])
    return batches


def _timed(backend: Backend, batches: Sequence[Sequence[PreparedRow]]) -> float:
    began = time.perf_counter()
    for batch in batches:
        backend.run(batch)
    return time.perf_counter() - began


class _Found(msgspec.Struct, frozen=True):
    """What a profiler has seen: calls with how many each stands for, and the seconds of it all."""

    by: str
    calls: list[tuple[Call, int]]
    seconds: float
    graph_us: float = 0.0


def _profiled(
    backend: Backend, batches: Sequence[Sequence[PreparedRow]], trace_to: Path | None
) -> _Found:
    with tempfile.TemporaryDirectory(prefix="forebay-profile-") as folder:
        path = Path(folder) / "trace.json"
        by, tracing = _tracing(backend, path)
        if tracing is not None:
            with tracing:
                seconds = _timed(backend, batches)
            found = trace.read(path)
            if found.calls:
                if trace_to is not None:
                    trace_to.write_bytes(path.read_bytes())
                return _Found(by, [(call, 1) for call in found.calls], seconds, found.graph_us)
    if trace_to is not None:
        raise InvalidInput("This model leaves no trace: only ONNX Runtime and torch write one.")
    with Calls() as profiler:
        seconds = _timed(backend, batches)
    return _Found("Python calls", profiler.functions(), seconds)


def _tracing(backend: Backend, path: Path) -> tuple[str, AbstractContextManager[None] | None]:
    """Who writes a trace of this model, if anybody does."""
    if isinstance(backend, Traced):
        return "ONNX Runtime", backend.traced(path)
    if "torch" in sys.modules:  # a backend's, or a user's own class's
        return "torch", by_torch.traced(path)
    return "", None


def _grouped(calls: Sequence[tuple[Call, int]], *, by_kind: bool) -> tuple[Cost, ...]:
    groups: dict[str, list[tuple[Call, int]]] = {}
    for call, count in calls:
        groups.setdefault(call.kind if by_kind else call.name, []).append((call, count))
    whole = sum(call.self_us for call, _ in calls)
    costs: list[Cost] = []
    for name, several in groups.items():
        total, number = sum(call.self_us for call, _ in several), sum(n for _, n in several)
        cost = _cost(name, number, total, whole)
        if not by_kind:
            slowest = max((call for call, _ in several), key=lambda call: call.self_us)
            cost = msgspec.structs.replace(cost, kind=slowest.kind, shapes=slowest.shapes)
        costs.append(cost)
    return tuple(sorted(costs, key=lambda cost: -cost.total_ms))


def _cost(name: str, calls: int, total_us: float, whole_us: float) -> Cost:
    return Cost(
        name=name,
        calls=calls,
        total_ms=total_us / 1000,
        share=total_us / whole_us if whole_us else 0.0,
        mean_us=total_us / calls if calls else 0.0,
    )
