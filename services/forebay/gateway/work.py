"""What of a request is put on a lane."""

from collections.abc import Sequence

from forebay.contract.model import ModelSpec
from forebay.contract.rows import Options, Row
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

    Raises:
        TooLong: a text is longer than any model takes, and may not be cut.
    """
    scope: bytes | None = b""
    keys = None
    if recalled is not None:
        rows, scope, keys = recalled.rows, recalled.scope, recalled.keys
        if not rows:
            return b"", ()
    identity = b""
    if spec.joins and scope is not None:
        identity = identity_of(rows, truncate=truncate, options=options, scope=scope)
    return identity, parts_of(
        rows,
        now_ms=now_ms,
        deadline_ms=deadline_ms,
        truncate=truncate,
        options=options,
        cache=keys,
    )
