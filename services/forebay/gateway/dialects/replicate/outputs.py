"""What rows came to, in JSON as transformers' pipelines tell it."""

import re
import struct
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from forebay.contract.files import FILE_ID
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    Generated,
    Output,
    Span,
    Spans,
    Task,
    Tensors,
    Value,
)
from forebay.gateway import reranking, tensor_json, tensor_rows, zero_shot
from forebay.gateway.dialects.replicate.inputs import LabelsInput, is_of_documents
from forebay.gateway.http import to_json

_any = msgspec.json.Decoder()

_FILE = re.compile(rb'(?<!\\)"(%s)"(?!\s*:)' % FILE_ID.pattern.encode())
"""A file's id that is a whole text in JSON, and not the name of a field."""

_LISTS = ("text", "pair", "documents", "image", "prompt")
"""Fields that make an input several items where they are lists."""


class Label(msgspec.Struct, frozen=True):
    """A label and its score."""

    label: str
    score: float


class Token(msgspec.Struct, frozen=True):
    """A labelled token."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


class Group(msgspec.Struct, frozen=True):
    """Tokens that belong together."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


def is_single(task: Task | None, input_value: Any) -> bool:
    """Whether an input holds one item rather than a list of them.

    Args:
        task: the model's; None if it is no longer there.
        input_value: the input, as JSON gives it.
    """
    if isinstance(input_value, list):
        return False
    return task in (Task.PYTHON, Task.PIPELINE, Task.TENSORS) or not (
        isinstance(input_value, dict)
        and any(isinstance(input_value.get(field), list) for field in _LISTS)
    )


def with_urls(outputs: Sequence[Output], url: str) -> Sequence[Output]:
    """Outputs of a user's code with the URLs of the files in them, which it knows by their ids.

    Args:
        outputs: of a prediction's rows.
        url: any of this gateway, as the client knows it.
    """
    if not any(isinstance(one, Value) and _FILE.search(one.json) for one in outputs):
        return outputs
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))

    def shown(found: re.Match[bytes]) -> bytes:
        return to_json(f"{origin}/v1/files/{found[1].decode()}/content")

    return [Value(_FILE.sub(shown, one.json)) if isinstance(one, Value) else one for one in outputs]


def output_of(outputs: Sequence[Output], input_value: Any, *, single: bool) -> Any:
    """A prediction's output.

    Args:
        outputs: of its rows, in order.
        input_value: its input, as JSON or as what JSON gives.
        single: whether it holds one item.
    """
    if isinstance(outputs[0] if outputs else None, Classes | Entailment | Tensors):
        if isinstance(input_value, msgspec.Raw):
            input_value = _any.decode(input_value)
        if isinstance(outputs[0], Tensors):
            as_objects = any(map(tensor_json.is_object, input_value.values()))
            return {
                tensor.name: tensor_json.told(tensor, as_object=as_objects)
                for tensor in tensor_rows.tensors_of(outputs)
            }
        if is_of_documents(input_value):
            values: list[Any] = reranking.ranking(outputs, top_n=input_value.get("top_n"))
        elif isinstance(outputs[0], Classes):
            values = _classes(cast("Sequence[Classes]", outputs), input_value, single=single)
        else:
            values = _rankings(cast("Sequence[Entailment]", outputs), input_value)
    else:
        values = [_value(output) for output in outputs]
    return values[0] if single and len(values) == 1 else values


def _value(output: Output) -> Any:
    match output:
        case Embedding(vector=vector):
            return struct.unpack(f"<{len(vector) // 4}f", vector)
        case Value(json=json):
            return msgspec.Raw(json)
        case Generated(text=text):
            return text
        case Spans(spans=spans):
            return [_span(span) for span in spans]
        case _:
            raise TypeError(f"{type(output).__name__} takes the input to be told")


def _span(span: Span) -> Token | Group:
    if span.index is None:
        return Group(span.entity, span.score, span.word, span.start, span.end)
    return Token(span.entity, span.score, span.index, span.word, span.start, span.end)


def _classes(outputs: Sequence[Classes], given: dict[str, Any], *, single: bool) -> list[Any]:
    """For each row its labels; the best one alone where the pipeline tells no list.

    That is so unless the request says `top_k`, or is one text by itself, or of images.
    """
    listed = "top_k" in given or "image" in given or (single and given.get("pair") is None)
    values: list[Any] = []
    for output in outputs:
        scores = struct.unpack(f"<{len(output.scores) // 4}f", output.scores)
        labels = [Label(*both) for both in zip(output.labels, scores, strict=True)]
        values.append(labels if listed else labels[0])
    return values


def _rankings(outputs: Sequence[Entailment], given: dict[str, Any]) -> list[Any]:
    asked = msgspec.convert(given, LabelsInput)
    texts = (asked.text,) if isinstance(asked.text, str) else asked.text
    labels = asked.names
    return [
        zero_shot.ranking(
            text,
            labels,
            outputs[index * len(labels) : (index + 1) * len(labels)],
            multi_label=asked.multi_label,
        )
        for index, text in enumerate(texts)
    ]
