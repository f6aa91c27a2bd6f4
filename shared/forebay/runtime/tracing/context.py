"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to."""

import re
from typing import Final

import msgspec

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.DOTALL
)
_SAMPLED: Final = 1

MAX_STATE: Final = 512
"""Characters of a `tracestate` that is passed on; a longer one is left out."""


class Trace(msgspec.Struct, frozen=True):
    """A span of a trace: what others are children of.

    Attributes:
        trace_id: 128 bits, not 0.
        span_id: 64 bits, not 0.
        sampled: whether it is recorded.
        state: `tracestate`, as it came.
    """

    trace_id: int
    span_id: int
    sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        """As the header has it, version 00."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"

    @property
    def packed(self) -> str:
        """As messages have it: `traceparent`, and after a blank `tracestate` if there is any."""
        return f"{self.traceparent} {self.state}" if self.state else self.traceparent


def decode(traceparent: str | bytes, state: str = "") -> Trace | None:
    """What a `traceparent` says; None if it is none, as the recommendation has it.

    Args:
        traceparent: the header's value. Of a later version than 00 what is known here is read.
        state: the `tracestate` beside it.
    """
    data = traceparent.encode("latin-1", "replace") if isinstance(traceparent, str) else traceparent
    found = _TRACEPARENT.fullmatch(data.strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and len(data.strip()) != _LENGTH):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    told = state if len(state) <= MAX_STATE else ""
    return Trace(trace_id, span_id, bool(int(found[4], 16) & _SAMPLED), told)


_LENGTH: Final = 55


def unpack(packed: str) -> Trace | None:
    """Inverse of `Trace.packed`; None if it is none."""
    traceparent, _, state = packed.partition(" ")
    return decode(traceparent, state)
