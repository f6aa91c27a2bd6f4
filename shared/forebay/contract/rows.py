"""Rows, the units a batch is made of, and outputs, what a model makes of each.

A task fixes which rows it takes and which output it gives; row i of a computation always
answers to output i.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Task(StrEnum):
    """What a model does with a row."""

    EMBEDDING = "embedding"
    PYTHON = "python"
    ECHO = "echo"


class TextRow(msgspec.Struct, frozen=True, tag="text", tag_field="t"):
    """One text, to be tokenized by the worker."""

    text: str = msgspec.field(name="x")


class TokensRow(msgspec.Struct, frozen=True, tag="ids", tag_field="t"):
    """One text as ids of the model's own vocabulary, with or without its special tokens."""

    ids: tuple[int, ...] = msgspec.field(name="x")


class ValueRow(msgspec.Struct, frozen=True, tag="json", tag_field="t"):
    """Any JSON value, kept as its bytes."""

    json: bytes = msgspec.field(name="x")


Row = TextRow | TokensRow | ValueRow


class Embedding(msgspec.Struct, frozen=True, tag="emb", tag_field="t"):
    """One vector.

    Attributes:
        vector: `dim` little-endian float32 values, unit length if the model normalises.
        tokens: how many tokens of the model the row had, special tokens included.
    """

    vector: bytes = msgspec.field(name="x")
    tokens: int = msgspec.field(name="n")


class Value(msgspec.Struct, frozen=True, tag="json", tag_field="t"):
    """Any JSON value, kept as its bytes."""

    json: bytes = msgspec.field(name="x")


Output = Embedding | Value


MAX_TEXT_CHARACTERS = 1_000_000
"""No model looks at more of a text than this, so no more of it travels."""


def row_bytes(row: Row) -> int:
    """Size of a row's payload in bytes, for bounds that need no tokenizer."""
    match row:
        case TextRow(text=text):
            return len(text)
        case TokensRow(ids=ids):
            return 4 * len(ids)
        case ValueRow(json=json):
            return len(json)


_encoder = msgspec.msgpack.Encoder()


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Rows as msgpack: equal bytes for equal rows, and for no others."""
    return _encoder.encode(rows)
