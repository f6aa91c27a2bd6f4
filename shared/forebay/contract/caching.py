"""The response cache: what `models.toml` says of it, and what it keeps.

    row + version + parameters ─▶ key of 20 bytes ─▶ entry: when it was made, and the output

An entry is of one row. Its key tells the artifact's version, so a new version never answers with
what an old one has made.
"""

import hashlib
import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from forebay.contract.rows import (
    Options,
    Output,
    Row,
    alike,
    encode_options,
    encode_rows,
    output_bytes,
)

MAX_PROMPTS = 5_000
"""Prompts that a semantic cache remembers: each takes 1.5 kB in a gateway (of 384 numbers), and is
looked at for every prompt that is not known, 5,000 in 2 ms."""

KEY_BYTES = 20
"""Of 160 bits it takes 2**80 rows until two are likely to have the same."""


class Scope(StrEnum):
    """Who shares what is cached: all that ask a model, or only who sends the same API key."""

    SHARED = "shared"
    KEY = "key"


class SemanticOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a prompt may be answered with what was written for one that means about the same.

    It is a guess: texts of like meaning can want other answers, above all where they differ in a
    number, a name or a "not" (docs/cache.md has what that comes to).

    Attributes:
        model: of this catalog, which embeds the prompts.
        threshold: cosine of two prompts from which on one's answer is the other's.
        entries: prompts that are remembered, the latest.
        timeout_s: how long a request waits for its prompt to be embedded; then it is run.
    """

    model: str
    threshold: float = 0.97
    entries: int = 1_000
    timeout_s: float = 1.0

    def wrong(self) -> tuple[str, str] | None:
        """A field that is out of range, and what it must be."""
        for field, ok, rule in (
            ("threshold", 0.5 <= self.threshold <= 1, "0.5 to 1: texts below are not alike"),
            ("entries", 1 <= self.entries <= MAX_PROMPTS, f"1 to {MAX_PROMPTS:,}"),
            ("timeout_s", 0 < self.timeout_s <= 60, "more than 0, up to 60"),
        ):
            if not ok:
                return f"semantic.{field}", rule
        return None


class CacheOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a model's outputs, to answer the very same rows again without running them.

    Attributes:
        enabled: whether anything is. Say so only where the same row always gives the same output,
            and where outputs may stay in Redis for `ttl_s`.
        ttl_s: for how long an output answers, seconds.
        scope: who shares it: `shared`, or `key`, where only who sends the same API key does. So it
            is with requests that join one another.
        gateway_bytes: that each gateway keeps in its own memory, the latest used; 0 keeps none.
        redis_bytes: that Redis keeps, the latest made; what entries take beyond their outputs is
            counted.
        max_entry_bytes: a larger output is not kept.
        semantic: of a model that generates texts: whether prompts that are alike share answers.
    """

    enabled: bool = False
    ttl_s: float = 3_600.0
    scope: Scope = Scope.SHARED
    gateway_bytes: int = 32_000_000
    redis_bytes: int = 64_000_000
    max_entry_bytes: int = 65_536
    semantic: SemanticOptions | None = None

    @property
    def ttl_ms(self) -> int:
        """`ttl_s` in whole milliseconds."""
        return max(1, int(self.ttl_s * 1000))

    def wrong(self) -> tuple[str, str] | None:
        """A field that is out of range, and what it must be."""
        for field, ok, rule in (
            ("ttl_s", 0 < self.ttl_s <= _YEAR_S, f"more than 0, up to {_YEAR_S:,}"),
            ("gateway_bytes", self.gateway_bytes >= 0, "0 or more"),
            ("redis_bytes", self.redis_bytes >= self.max_entry_bytes, "at least max_entry_bytes"),
            ("max_entry_bytes", self.max_entry_bytes >= 1, "at least 1"),
        ):
            if not ok or math.isnan(self.ttl_s):
                return field, rule
        return None if self.semantic is None else self.semantic.wrong()


_YEAR_S = 31_536_000


class CacheKeys(msgspec.Struct, frozen=True, array_like=True):
    """Where the outputs of a computation's rows are to be kept; travels with it.

    Attributes:
        version: short digest of the artifact that the keys are made for: what another one answers
            isn't kept.
        keys: one a row, in order.
    """

    version: str
    keys: tuple[bytes, ...]

    def part(self, first: int, rows: int) -> "CacheKeys":
        """Those of a part's rows."""
        return CacheKeys(self.version, self.keys[first : first + rows])


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is kept under a key.

    Attributes:
        at_ms: when the output was made, Unix time in ms, by the Redis server's clock.
        output: of the row.
    """

    at_ms: int
    output: Output


def row_keys(
    rows: Sequence[Row], *, version: str, truncate: bool, options: Options, scope: bytes = b""
) -> tuple[bytes, ...]:
    """Keys of rows: digests of all that their outputs follow from, see `rows.alike`.

    Args:
        rows: as the client sent them, at least one.
        version: short digest of the artifact that answers.
        truncate: whether an over-long row is cut.
        options: what is asked of the outputs.
        scope: digest of whom the entries are for, 16 bytes at most; empty for everybody.
    """
    # The lengths of what comes before a row are told: no two differ in how they are taken apart.
    told = encode_options(options)
    head = b"%s:%d:%d:" % (version.encode(), truncate, len(told)) + told
    base = hashlib.blake2b(head, digest_size=KEY_BYTES, person=scope)
    keys: list[bytes] = []
    for row in alike(rows):
        digest = base.copy()
        digest.update(encode_rows((row,)))
        keys.append(digest.digest())
    return tuple(keys)


def entries_of(
    wanted: CacheKeys | None,
    outputs: Sequence[Output],
    *,
    version: str,
    at_ms: int,
    cache: CacheOptions,
) -> tuple[tuple[bytes, bytes], ...]:
    """Key and encoded entry of each output that is to be kept.

    Args:
        wanted: where the gateway wants outputs to be kept; None where it doesn't.
        outputs: of all rows of the computation, in order.
        version: short digest of the artifact that made them.
        at_ms: when they were made, Unix time in ms.
        cache: of the model that made them.
    """
    if wanted is None or not cache.enabled or wanted.version != version:
        return ()
    return tuple(
        (key, encode_entry(Entry(at_ms, output)))
        for key, output in zip(wanted.keys, outputs, strict=True)
        if output_bytes(output) <= cache.max_entry_bytes
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """An entry as msgpack."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Inverse of `encode_entry`.

    Raises:
        msgspec.MsgspecError: these bytes are no entry.
    """
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        # As for messages: what msgspec lets through must not take a reader down.
        raise msgspec.DecodeError(str(error)) from error
