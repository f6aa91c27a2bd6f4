"""What of a request is put on a lane."""

from collections.abc import Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS
from forebay.contract.rows import Options, Row, Task
from forebay.gateway.recall import Recall
from forebay.lanes.lane import Part
from forebay.lanes.parts import identity_of, parts_of


def work_of(
    spec: ModelSpec,
    rows: Sequence[Row],
    recalled: Recall | None,
    *,
    now_ms: int,
    deadline_ms: int,
    truncate: bool,
    options: Options,
    stream: bool = False,
) -> tuple[bytes, tuple[Part, ...]]:
    """Identity and parts of what is to run.

    Args:
        spec: the version that runs it.
        rows: of the request.
        recalled: what the cache has for it, so that only the other rows run; there are no parts
            where it has all. None where it was not asked.
        now_ms: when the prediction was made.
        deadline_ms: after how long it expires.
        truncate: cut over-long rows.
        options: what is asked of the outputs.
        stream: somebody reads what is generated while it is; then one worker runs all of it.

    Raises:
        InvalidInput: a stream is more than one worker takes.
        TooLong: a text is longer than any model takes, and may not be cut.
    """
    scope: bytes | None = b""
    keys = None
    if recalled is not None:
        rows, scope, keys = recalled.rows, recalled.scope, recalled.keys
        if not rows:
            return b"", ()
    identity = b""
    if _joins(spec, options) and scope is not None and not stream:
        identity = identity_of(rows, truncate=truncate, options=options, scope=scope)
    parts = parts_of(
        rows,
        now_ms=now_ms,
        deadline_ms=deadline_ms,
        truncate=truncate,
        options=options,
        stream=stream,
        cache=keys,
    )
    if stream and len(parts) > 1:
        raise InvalidInput(  # its chunks are numbered by who runs it
            f"A stream takes {MAX_PART_ROWS} rows and {MAX_PART_BYTES:,} bytes of them at most: "
            "send several requests, or ask without a stream."
        )
    return identity, parts


def _joins(spec: ModelSpec, options: Options) -> bool:
    """Whether the very same may be run once for all who ask for it at once."""
    if spec.task is not Task.GENERATION:
        return spec.joins
    # Who has tokens drawn by chance asks for a text of his own.
    return spec.joins and options.sampling is not None and options.sampling.repeatable
