"""Cuts a prediction's rows into parts, small enough for a worker to hold several."""

import hashlib
from collections.abc import Sequence

from forebay.contract.caching import CacheKeys
from forebay.contract.errors import TooLong
from forebay.contract.messages import Computation, encode
from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    MAX_TEXT_CHARACTERS,
    Options,
    PairRow,
    Row,
    TextRow,
    alike,
    encode_options,
    encode_rows,
    row_bytes,
)
from forebay.lanes.lane import Part

UNTOLD_TOKENS = 256
"""What a row is taken to generate that may generate what its context has room for."""


def parts_of(
    rows: Sequence[Row],
    *,
    now_ms: int,
    deadline_ms: int,
    truncate: bool,
    options: Options = DEFAULT_OPTIONS,
    traceparent: str | None = None,
    most: int = MAX_PART_ROWS,
    stream: bool = False,
    cache: CacheKeys | None = None,
    caller: str = "",
) -> tuple[Part, ...]:
    """Cut rows into lane entries, in order.

    Args:
        rows: of the prediction, at least one.
        now_ms: when it was made.
        deadline_ms: after how long it expires.
        truncate: cut over-long rows.
        options: what is asked of the outputs.
        traceparent: W3C trace context, if the request is sampled.
        most: rows in one part.
        stream: somebody reads what is generated while it is.
        cache: where the rows' outputs are to be kept, if they are.
        caller: whose they are, as of `lane.caller_of`.

    Raises:
        TooLong: a text is longer than any model takes, and may not be cut.
    """
    deadline_at_ms = now_ms + deadline_ms
    told = int(caller[:8], 16) if caller else 0  # four of its bytes: who shares them shares turns
    tokens = 0
    if options.sampling is not None:
        tokens = options.sampling.max_tokens or UNTOLD_TOKENS
    return tuple(
        Part(
            len(some),
            encode(
                Computation(
                    some,
                    now_ms,
                    deadline_at_ms,
                    first,
                    truncate,
                    traceparent,
                    options=options,
                    stream=stream,
                    cache=cache and cache.part(first, len(some)),
                    caller=told,
                )
            ),
            tokens * len(some),
        )
        for first, some in _cut(_bounded(rows, truncate=truncate), most)
    )


def identity_of(
    rows: Sequence[Row],
    *,
    truncate: bool,
    options: Options = DEFAULT_OPTIONS,
    scope: bytes = b"",
) -> bytes:
    """What requests of a model have in common if they ask for the very same: a digest of 20 bytes.

    Args:
        rows: as the client sent them, at least one.
        truncate: as the client sent it.
        options: likewise. The bytes of rows tell where they end, so what follows is the options.
        scope: digest of who may have them in common, 16 bytes at most; empty for everybody.
    """
    told = encode_rows(alike(rows)) + encode_options(options)
    return hashlib.blake2b(told, digest_size=20, salt=b"cut" * truncate, person=scope).digest()


def _bounded(rows: Sequence[Row], *, truncate: bool) -> tuple[Row, ...]:
    """The rows, with texts that nobody would read to the end cut or refused."""
    if max(map(_longest, rows), default=0) <= MAX_TEXT_CHARACTERS:
        return tuple(rows)
    bounded: list[Row] = []
    for index, row in enumerate(rows):
        if _longest(row) > MAX_TEXT_CHARACTERS:
            if not truncate:
                raise TooLong(
                    f"Row {index}: This text has {_longest(row):,} characters, and no model takes "
                    f"more than {MAX_TEXT_CHARACTERS:,}: shorten it, or send `truncate: true` to "
                    "use its first tokens only.",
                    row=index,
                )
            bounded.append(_cut_text(row))
        else:
            bounded.append(row)
    return tuple(bounded)


def _longest(row: Row) -> int:
    """Characters of the longest text in a row."""
    if isinstance(row, TextRow):
        return len(row.text)
    return max(len(row.text), len(row.pair)) if isinstance(row, PairRow) else 0


def _cut_text(row: Row) -> Row:
    if isinstance(row, TextRow):
        return TextRow(row.text[:MAX_TEXT_CHARACTERS])
    assert isinstance(row, PairRow)
    return PairRow(row.text[:MAX_TEXT_CHARACTERS], row.pair[:MAX_TEXT_CHARACTERS])


def _cut(rows: tuple[Row, ...], most: int) -> list[tuple[int, tuple[Row, ...]]]:
    """Runs of rows that fit into a part, each with the index of its first row."""
    if len(rows) == 1:
        return [(0, rows)]
    runs: list[tuple[int, tuple[Row, ...]]] = []
    first = size = 0
    for index, row in enumerate(rows):
        row_size = row_bytes(row)
        full = index - first == most or size + row_size > MAX_PART_BYTES
        if full and index > first:
            runs.append((first, rows[first:index]))
            first, size = index, 0
        size += row_size
    return [*runs, (first, rows[first:])]
