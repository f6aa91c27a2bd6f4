"""Operators of a trace in Chrome's format, as ONNX Runtime's and torch's profilers write one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from forebay.contract.errors import ForebayError

_SUFFIX = "_kernel_time"
_WHOLE_RUN = "model_run"


class Call(msgspec.Struct, frozen=True):
    """One run of one operator.

    Attributes:
        name: of the node, or what was called.
        kind: of the operator.
        self_us: time in it and in nothing that it called, microseconds.
        shapes: of what went in, as text.
    """

    name: str
    kind: str
    self_us: float
    shapes: str = ""


class _Event(msgspec.Struct, frozen=True):
    """A complete event; `ts` and `dur` are microseconds."""

    name: str = ""
    ph: str = ""
    cat: str = ""
    pid: int | str = 0
    tid: int | str = 0
    ts: float = 0.0
    dur: float = 0.0
    args: dict[str, Any] = {}


class _Whole(msgspec.Struct, frozen=True):
    """A trace that is an object, as torch's is."""

    traceEvents: list[_Event]  # noqa: N815 - the format's own name


class Trace(msgspec.Struct, frozen=True):
    """What a trace holds.

    Attributes:
        calls: every run of an operator.
        graph_us: time in whole forward passes, where the profiler tells; else 0.
    """

    calls: list[Call]
    graph_us: float


def read(path: Path) -> Trace:
    """Every run of an operator, with its own time.

    Raises:
        ForebayError: the file is no trace.
    """
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=list[_Event] | _Whole)
    except (OSError, msgspec.MsgspecError) as error:
        raise ForebayError(f"The profiler's trace {path} can't be read: {error}.") from error
    events = found.traceEvents if isinstance(found, _Whole) else found
    return Trace(
        [
            Call(*_named(event), own, _shapes(event.args))
            for event, own in _own_times(event for event in events if _is_operator(event))
        ],
        sum(event.dur for event in events if event.name == _WHOLE_RUN),
    )


def _is_operator(event: _Event) -> bool:
    if event.cat == "Node":  # ONNX Runtime's; fences around a kernel are events of their own
        return event.ph == "X" and event.name.endswith(_SUFFIX)
    return event.ph == "X" and event.cat == "cpu_op"


def _named(event: _Event) -> tuple[str, str]:
    if event.cat == "Node":
        return event.name.removesuffix(_SUFFIX), str(event.args.get("op_name", ""))
    return event.name, event.name.rpartition("::")[2]


def _own_times(events: Iterable[_Event]) -> list[tuple[_Event, float]]:
    """Each event with its time less that of those inside it, on its thread."""
    by_thread: dict[tuple[int | str, int | str], list[_Event]] = {}
    for event in events:
        by_thread.setdefault((event.pid, event.tid), []).append(event)
    owned: list[tuple[_Event, float]] = []
    for several in by_thread.values():
        several.sort(key=lambda event: (event.ts, -event.dur))
        own = [event.dur for event in several]
        around: list[int] = []
        for index, event in enumerate(several):
            while around and several[around[-1]].ts + several[around[-1]].dur <= event.ts:
                around.pop()
            if around:
                own[around[-1]] -= event.dur
            around.append(index)
        owned += zip(several, (max(one, 0.0) for one in own), strict=True)
    return owned


def _shapes(args: Mapping[str, Any]) -> str:
    """ONNX Runtime tells `[{"float": [8, 32]}, …]`, torch `[[8, 32], …]`."""
    told: Sequence[Any] = args.get("input_type_shape") or args.get("Input Dims") or ()
    shapes = [
        shape
        for one in told
        for shape in (cast("dict[str, Any]", one).values() if isinstance(one, dict) else (one,))
    ]
    return ", ".join("x".join(map(str, shape)) for shape in shapes if shape)  # scalars have none
