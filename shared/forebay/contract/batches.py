"""The batch: requests in a file, one a line, whose answers are two files.

validating ──▶ in_progress ──▶ finalizing ──▶ completed | expired
│ └──────────▶ cancelling ◀──┘ └──────────▶ cancelled
└──▶ failed: the file itself is at fault
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput

ENDPOINTS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/responses",
)
"""Where a line's request may go."""

MOST_LINES: Final = 50_000
"""Requests in one batch."""

MOST_BYTES: Final = 200_000_000
"""Size of a batch's file."""

MOST_FAULTS: Final = 100
"""Of a file's faults, so many are told."""

MOST_CUSTOM_ID: Final = 512
"""Characters of a `custom_id`."""

SHORTEST_WINDOW_S: Final = 3_600
LONGEST_WINDOW_S: Final = 7 * 86_400

BATCH_ID: Final = re.compile(r"batch_[0-9a-f]{12}[0-9a-f]{20}")
"""An id: when the batch was made, Unix time in milliseconds, then 80 random bits."""

_WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")
_UNITS: Final = {"h": 3_600, "d": 86_400}


class BatchStatus(StrEnum):
    """Where a batch is in its life."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in _TERMINAL

    @property
    def cancellable(self) -> bool:
        """Whether it can be cancelled, or is being."""
        return self in _CANCELLABLE


_TERMINAL: Final = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)

_CANCELLABLE: Final = frozenset(
    {BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING}
)


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with a batch's file.

    Attributes:
        code: for programs.
        message: one sentence for a person.
        line: its number, from 1; None where it is no line's.
        param: the field at fault.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client asks for. It never changes.

    Attributes:
        endpoint: where every line's request goes.
        input_file_id: the file that has them.
        completion_window: as the client wrote it.
        metadata: the client's own.
        output_expires_after_s: how long the files of answers are wanted; None for as long as files
            are kept.
    """

    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] = {}
    output_expires_after_s: float | None = None

    def check(self) -> None:
        """See that it can be run, as far as it says itself.

        Raises:
            InvalidInput: there is no such endpoint, or no such window.
        """
        if self.endpoint not in ENDPOINTS:
            raise InvalidInput(
                f"A batch's endpoint is one of {', '.join(ENDPOINTS)}, not {self.endpoint[:80]!r}.",
                param="endpoint",
            )
        _seconds_of(self.completion_window)

    @property
    def window_s(self) -> int:
        """How long the batch may take, seconds.

        Raises:
            InvalidInput: the window can't be understood, or is too short or too long.
        """
        return _seconds_of(self.completion_window)


def _seconds_of(window: str) -> int:
    match = _WINDOW.fullmatch(window)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not SHORTEST_WINDOW_S <= seconds <= LONGEST_WINDOW_S:
        raise InvalidInput(
            "completion_window is from 1h to 168h, or from 1d to 7d: 24h is usual.",
            param="completion_window",
        )
    return seconds


class Counts(msgspec.Struct, frozen=True):
    """Requests of a batch: all, those with an answer, those with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the requests of a batch that have an answer.

    Attributes:
        input: of what was asked.
        cached: of these, those that were not computed again.
        output: of what was answered.
    """

    input: int = 0
    cached: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.output


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, as it stands.

    Attributes:
        id: see `BATCH_ID`.
        request: what was asked for.
        status: see the module docstring.
        created_at: Unix time in seconds; likewise the others.
        expires_at: when what is not done then will not be.
        since: when it took on each status that it has had, but for the first.
        counts: how far it is; `total` is known once the file is checked.
        usage: what that has cost.
        faults: of its file, if it has failed.
        output_file_id: the answers, once it has ended and if there are any.
        error_file_id: the errors, likewise.
    """

    id: str
    request: BatchRequest
    status: BatchStatus
    created_at: float
    expires_at: float
    since: dict[BatchStatus, float] = {}
    counts: Counts = Counts()
    usage: Usage = Usage()
    faults: tuple[Fault, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
