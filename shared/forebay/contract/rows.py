"""Rows, the units a batch is made of, and outputs, what a model makes of each.

A task fixes which rows it takes and which output it gives; row i of a computation always
answers to output i.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from forebay.contract.generation import Finish, Message, Sampling, TokenLogprob
from forebay.contract.tools import ToolCall, Tools


class Task(StrEnum):
    """What a model does with a row."""

    EMBEDDING = "embedding"
    CLASSIFICATION = "classification"
    RERANKING = "reranking"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - no password
    ZERO_SHOT = "zero-shot"
    IMAGE_CLASSIFICATION = "image-classification"
    TENSORS = "tensors"
    GENERATION = "generation"
    PYTHON = "python"
    ECHO = "echo"
    PIPELINE = "pipeline"


class TextRow(msgspec.Struct, frozen=True, tag="text", tag_field="t"):
    """One text, to be tokenized by the worker."""

    text: str = msgspec.field(name="x")


class TokensRow(msgspec.Struct, frozen=True, tag="ids", tag_field="t"):
    """One text as ids of the model's own vocabulary, with or without its special tokens."""

    ids: tuple[int, ...] = msgspec.field(name="x")


class ValueRow(msgspec.Struct, frozen=True, tag="json", tag_field="t"):
    """Any JSON value, kept as its bytes."""

    json: bytes = msgspec.field(name="x")


class PairRow(msgspec.Struct, frozen=True, tag="pair", tag_field="t"):
    """Two texts that the model reads together.

    Attributes:
        text: the first: a query, a premise.
        pair: the second: a document, a hypothesis.
    """

    text: str = msgspec.field(name="x")
    pair: str = msgspec.field(name="y")


class ImageRow(msgspec.Struct, frozen=True, tag="img", tag_field="t"):
    """One image, to be decoded by the worker.

    Attributes:
        image: a file's bytes: PNG, JPEG, WebP, GIF or BMP.
    """

    image: bytes = msgspec.field(name="x")


class NamedTensor(msgspec.Struct, frozen=True, array_like=True):
    """A tensor by its name; travels as an array, later fields at its end.

    Attributes:
        datatype: the Open Inference Protocol's name of it; see `tensors.ELEMENT_BYTES`.
        shape: in elements, the axis of rows included where the model has one.
        data: the elements in row-major order, little-endian; each element of `BYTES` as its length
            in four bytes and then its bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class TensorsRow(msgspec.Struct, frozen=True, tag="tens", tag_field="t"):
    """One set of tensors: all that a model takes for one row, or for a few of the same shapes."""

    tensors: tuple[NamedTensor, ...] = msgspec.field(name="x")


class ChatRow(msgspec.Struct, frozen=True, tag="chat", tag_field="t", omit_defaults=True):
    """A chat that the model goes on with; the worker renders it by the model's own template.

    Attributes:
        messages: so far.
        tools: that the model may call.
        expected: what the answer may be like, for drafts; the answer doesn't depend on it.
    """

    messages: tuple[Message, ...] = msgspec.field(name="x")
    tools: Tools | None = msgspec.field(name="c", default=None)
    expected: str = msgspec.field(name="e", default="")


Row = TextRow | TokensRow | ValueRow | PairRow | ImageRow | TensorsRow | ChatRow


class Function(StrEnum):
    """What makes scores of a classifier's logits."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


class Aggregation(StrEnum):
    """How labelled tokens become spans: one each, or one for each run of tokens that belong."""

    NONE = "none"
    SIMPLE = "simple"


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request asks of its rows' outputs, beyond what the model says.

    Attributes:
        top_k: labels in a `Classes`, the best ones; 0 means all.
        function: makes the scores; None is the model's own.
        aggregation: of labelled tokens.
        sampling: of generated text.
    """

    top_k: int = msgspec.field(name="k", default=1)
    function: Function | None = msgspec.field(name="f", default=None)
    aggregation: Aggregation = msgspec.field(name="a", default=Aggregation.NONE)
    sampling: Sampling | None = msgspec.field(name="s", default=None)


DEFAULT_OPTIONS = Options()


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


class Classes(msgspec.Struct, frozen=True, tag="cls", tag_field="t"):
    """Labels of a text, a pair of texts or an image, the best first.

    Attributes:
        labels: the artifact's names of them.
        scores: one little-endian float32 value a label.
        tokens: how many tokens of the model the row had, special tokens included; 0 of an image.
    """

    labels: tuple[str, ...] = msgspec.field(name="l")
    scores: bytes = msgspec.field(name="x")
    tokens: int = msgspec.field(name="n")


class Entailment(msgspec.Struct, frozen=True, tag="nli", tag_field="t"):
    """Whether a text entails a hypothesis.

    Attributes:
        entails: logit.
        contradicts: logit.
        tokens: how many tokens of the model the row had, special tokens included.
    """

    entails: float = msgspec.field(name="e")
    contradicts: float = msgspec.field(name="c")
    tokens: int = msgspec.field(name="n")


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A part of a text with what it is; travels as an array, later fields at its end.

    Attributes:
        entity: label of the token, or name of the group's entity.
        score: 0..1; a group's is the mean of its tokens'.
        word: the token, or the group's tokens as text.
        start: first character.
        end: the character after the last.
        index: the token's place in its row, special tokens counted; None for a group.
    """

    entity: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


class Spans(msgspec.Struct, frozen=True, tag="spans", tag_field="t"):
    """What was found in a text, in its order.

    Attributes:
        spans: none where nothing was found.
        tokens: how many tokens of the model the row had, special tokens included.
    """

    spans: tuple[Span, ...] = msgspec.field(name="x")
    tokens: int = msgspec.field(name="n")


class Tensors(msgspec.Struct, frozen=True, tag="tens", tag_field="t"):
    """All that a model gives for a `TensorsRow`."""

    tensors: tuple[NamedTensor, ...] = msgspec.field(name="x")


class Generated(msgspec.Struct, frozen=True, tag="gen", tag_field="t", omit_defaults=True):
    """A text that a model wrote.

    Attributes:
        text: without the stop string that ended it.
        finish: why it ended.
        prompt_tokens: length of the prompt.
        tokens: how many were generated, one that ends the text included.
        cached_tokens: how many of the prompt's were not computed again.
        logprobs: one a token, where they were asked for.
        calls: of tools; `text` is what stood before them.
        drafted_tokens: how many were guessed, to be checked several at once.
        accepted_tokens: how many of those were right.
        expected_tokens: how many tokens the text was expected to have, where the request said.
        met_tokens: how many of those it has.
    """

    text: str = msgspec.field(name="x")
    finish: Finish = msgspec.field(name="f")
    prompt_tokens: int = msgspec.field(name="p")
    tokens: int = msgspec.field(name="n")
    cached_tokens: int = msgspec.field(name="c", default=0)
    logprobs: tuple[TokenLogprob, ...] = msgspec.field(name="lp", default=())
    calls: tuple[ToolCall, ...] = msgspec.field(name="k", default=())
    drafted_tokens: int = msgspec.field(name="d", default=0)
    accepted_tokens: int = msgspec.field(name="a", default=0)
    expected_tokens: int = msgspec.field(name="e", default=0)
    met_tokens: int = msgspec.field(name="m", default=0)


Output = Embedding | Value | Classes | Entailment | Spans | Tensors | Generated


_PAYLOAD: Mapping[type, Callable[[Any], int]] = MappingProxyType(
    {
        Embedding: lambda output: len(output.vector),
        Value: lambda output: len(output.json),
        Classes: lambda output: len(output.scores) + sum(map(len, output.labels)),
        Entailment: lambda output: 18,
        Spans: lambda output: sum(len(x.entity) + len(x.word) + 24 for x in output.spans),
        Tensors: lambda output: sum(len(tensor.data) for tensor in output.tensors),
        Generated: lambda output: (
            len(output.text) + sum(len(call.name) + len(call.arguments) for call in output.calls)
        ),
    }
)


def output_bytes(output: Output) -> int:
    """About the size of an output's payload in bytes."""
    return _PAYLOAD[type(output)](output)


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
        case PairRow(text=text, pair=pair):
            return len(text) + len(pair)
        case ImageRow(image=image):
            return len(image)
        case TensorsRow(tensors=tensors):
            return sum(len(tensor.data) for tensor in tensors)
        case ChatRow(messages=messages, tools=tools, expected=expected):
            size = len(expected) + sum(len(message.content) for message in messages)
            size += sum(len(call.arguments) for message in messages for call in message.calls)
            return size + sum(len(tool.parameters) for tool in (tools.tools if tools else ()))


_encoder = msgspec.msgpack.Encoder()


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Rows as msgpack: equal bytes for equal rows, and for no others."""
    return _encoder.encode(rows)


_values = msgspec.json.Decoder(float_hook=lambda number: msgspec.Raw(number.encode()))
_alike = msgspec.json.Encoder(order="sorted")


def alike(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows as all have them that say the same: JSON values written in one way, the rest as it is.

    Blanks, the order of fields and how a string is escaped say nothing. Numbers say how they are
    written: a model may read `1`, `1.0` and `1.00` as a whole number and two decimals.

    Args:
        rows: at least one, all of one kind.
    """
    if type(rows[0]) is not ValueRow:  # a third of what isinstance takes, for every text
        return rows
    return [ValueRow(_plain(row.json)) if isinstance(row, ValueRow) else row for row in rows]


def _plain(json: bytes) -> bytes:
    """A value in the one way; what can't be read is as it came."""
    try:
        return _alike.encode(_values.decode(json))
    except (ValueError, RecursionError):  # msgspec's own are ValueErrors
        return json


def encode_options(options: Options) -> bytes:
    """Options as msgpack: equal bytes for equal options, and for no others; none for defaults."""
    return b"" if options == DEFAULT_OPTIONS else _encoder.encode(options)
