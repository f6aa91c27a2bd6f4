"""Which tensors a model of each task takes and gives: the one table to extend for a new task.

    task                  inputs                                     outputs
    embedding             text BYTES [-1],                           embedding FP32 [-1, dimensions]
                          or input_ids INT64 [-1, -1], attention_mask
    classification        text BYTES [-1], perhaps pair BYTES [-1]   labels BYTES [-1, -1],
    and reranking         text BYTES [-1] and pair BYTES [-1]        scores FP32 [-1, -1]
    zero-shot             text BYTES [-1] and pair BYTES [-1],       logits FP32 [-1, 2]: entails,
                          the hypothesis                             contradicts
    token-classification  text BYTES [-1]                            spans BYTES [-1], each JSON
    image-classification  image BYTES [-1], each a file, or          labels BYTES [-1, -1],
                          base64 or a data: URL of one               scores FP32 [-1, -1]
    generation            text BYTES [-1], prompts                   text BYTES [-1]
    echo, python          value BYTES [-1], each of them JSON        value BYTES [-1]
    and pipeline

Labels come the best first, all of them. The first dimension is rows. A task is a `Signature`: what
it takes, what it gives, and the two functions between tensors and rows. That of a model of plain
tensors is its own: what its artifact's manifest says.
"""

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    Classes,
    Embedding,
    Entailment,
    Generated,
    ImageRow,
    Options,
    Output,
    PairRow,
    Row,
    Spans,
    Task,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.contract.tensors import BYTES, TensorSignature, TensorSpec
from forebay.gateway import images, tensor_rows
from forebay.gateway.bodies import check_depth, decode
from forebay.gateway.errors import MalformedBody
from forebay.gateway.http import to_json
from forebay.gateway.tensors import Tensor

MAX_TOKEN_ID: Final = 2**31 - 1

Inputs = Mapping[str, Tensor]


class Signature(msgspec.Struct, frozen=True):
    """What a model of a task looks like from here.

    Attributes:
        inputs: what it takes.
        outputs: what it gives; the length of its vectors, where that is known, goes in.
        rows: makes rows of tensors, whose datatypes and shapes have been checked.
        tensors: makes tensors of outputs, one output a row.
        options: what is asked of the outputs.
        rows_first: whether the first dimension of its inputs is rows.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: Callable[[int | None], tuple[TensorSpec, ...]]
    rows: Callable[[Inputs], Sequence[Row]]
    tensors: Callable[[Sequence[Output]], list[Tensor]]
    options: Options = DEFAULT_OPTIONS
    rows_first: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Of its outputs."""
        return tuple(spec.name for spec in self.outputs(None))


def _embedding_rows(inputs: Inputs) -> Sequence[Row]:
    if "text" in inputs:
        if len(inputs) > 1:
            raise InvalidInput("Give text, or input_ids, not both.", param="text")
        return [TextRow(text) for text in _texts(inputs["text"])]
    if "input_ids" not in inputs:
        raise InvalidInput("Give text (BYTES), or input_ids (INT64).", param="text")
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    width = ids.shape[1]
    numbers = ids.numbers
    if min(numbers) < 0 or max(numbers) > MAX_TOKEN_ID:
        raise InvalidInput(
            f"input_ids must be from 0 to {MAX_TOKEN_ID:,}.",
            param="input_ids",
        )
    rows = [numbers[at : at + width] for at in range(0, len(numbers), width)]
    if mask is None:
        return [TokensRow(row) for row in rows]
    if mask.shape != ids.shape:
        raise InvalidInput(
            f"attention_mask must be of the shape of input_ids, {list(ids.shape)}, not "
            f"{list(mask.shape)}.",
            param="attention_mask",
        )
    masks = mask.numbers
    return [
        TokensRow(_unpadded(row, masks[at * width : (at + 1) * width], at))
        for at, row in enumerate(rows)
    ]


def _unpadded(ids: tuple[int, ...], mask: tuple[int, ...], row: int) -> tuple[int, ...]:
    """The ids before the padding, which is where a mask of ones ends."""
    kept = mask.count(1)
    if not kept or mask != (1,) * kept + (0,) * (len(mask) - kept):
        where = f"attention_mask[{row}]"
        raise InvalidInput(
            f"{where} must be ones, at least one, and then zeros: padding goes behind.", param=where
        )
    return ids[:kept]


def _embedding_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    vectors = [output.vector for output in outputs if isinstance(output, Embedding)]
    if len(vectors) < len(outputs) or len({len(vector) for vector in vectors}) != 1:
        raise ForebayError("The model answered with something that is no embedding.")
    shape = (len(vectors), len(vectors[0]) // 4)
    return [Tensor("embedding", "FP32", shape, b"".join(vectors))]


def _text_rows(inputs: Inputs) -> Sequence[Row]:
    """Texts, or pairs of texts where there are seconds."""
    firsts = _texts(inputs["text"])
    if "pair" not in inputs:
        return [TextRow(text) for text in firsts]
    seconds = _texts(inputs["pair"])
    if len(seconds) != len(firsts):
        raise InvalidInput(
            f"pair has {len(seconds):,} elements and text {len(firsts):,}: give one for each.",
            param="pair",
        )
    return [PairRow(*both) for both in zip(firsts, seconds, strict=True)]


def _classes_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    classes = [output for output in outputs if isinstance(output, Classes)]
    if len(classes) < len(outputs) or len({len(output.labels) for output in classes}) != 1:
        raise ForebayError("The model answered with something that is no list of its labels.")
    shape = (len(classes), len(classes[0].labels))
    labels = [label.encode() for output in classes for label in output.labels]
    scores = b"".join(output.scores for output in classes)
    return [Tensor("labels", BYTES, shape, labels), Tensor("scores", "FP32", shape, scores)]


def _logits_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    logits = [
        struct.pack("<ff", output.entails, output.contradicts)
        for output in outputs
        if isinstance(output, Entailment)
    ]
    if len(logits) < len(outputs):
        raise ForebayError("The model answered with something that is no entailment.")
    return [Tensor("logits", "FP32", (len(logits), 2), b"".join(logits))]


def _spans_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    spans = [
        to_json([msgspec.structs.asdict(span) for span in output.spans])
        for output in outputs
        if isinstance(output, Spans)
    ]
    if len(spans) < len(outputs):
        raise ForebayError("The model answered with something that is no list of spans.")
    return [Tensor("spans", BYTES, (len(spans),), spans)]


def _generated_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    texts = [output.text.encode() for output in outputs if isinstance(output, Generated)]
    if len(texts) < len(outputs):
        raise ForebayError("The model answered with something that is no text.")
    return [Tensor("text", BYTES, (len(texts),), texts)]


def _image_rows(inputs: Inputs) -> Sequence[Row]:
    rows: list[Row] = []
    for index, item in enumerate(inputs["image"].strings):
        where = f"image[{index}]"
        # No file of an image is all ASCII; base64, which JSON has to have it in, is.
        data = images.bytes_of(item.decode(), param=where) if item.isascii() else item
        rows.append(ImageRow(data))
    return rows


def _python_rows(inputs: Inputs) -> Sequence[Row]:
    rows = _echo_rows(inputs)
    for index, row in enumerate(rows):
        if isinstance(row, ValueRow) and not row.json.lstrip().startswith(b"{"):
            raise InvalidInput(f"value[{index}] must be a JSON object.", param=f"value[{index}]")
    return rows


def _echo_rows(inputs: Inputs) -> Sequence[Row]:
    rows: list[Row] = []
    for index, value in enumerate(inputs["value"].strings):
        where = f"value[{index}]"
        try:
            check_depth(decode(_any, value), param=where)
        except MalformedBody as error:
            why = error.message.replace("The body", where, 1)
            raise InvalidInput(why, param=where) from None
        rows.append(ValueRow(value))
    return rows


def _echo_tensors(outputs: Sequence[Output]) -> list[Tensor]:
    values = [output.json for output in outputs if isinstance(output, Value)]
    if len(values) < len(outputs):
        raise ForebayError("The model answered with something that is no JSON value.")
    return [Tensor("value", BYTES, (len(values),), values)]


def _texts(tensor: Tensor) -> list[str]:
    texts: list[str] = []
    for index, item in enumerate(tensor.strings):
        where = f"{tensor.name}[{index}]"
        try:
            text = item.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{where} is not UTF-8.", param=where) from None
        if not text:
            raise InvalidInput(f"{where} must not be empty.", param=where)
        texts.append(text)
    return texts


_any = msgspec.json.Decoder()

_TEXT: Final = TensorSpec("text", BYTES, (-1,))
_PAIR: Final = TensorSpec("pair", BYTES, (-1,))
_LABELLED: Final = (TensorSpec("labels", BYTES, (-1, -1)), TensorSpec("scores", "FP32", (-1, -1)))
_ALL_LABELS: Final = Options(top_k=0)

SIGNATURES: Final = cast(
    Mapping[Task, Signature],
    {
        Task.EMBEDDING: Signature(
            inputs=(
                TensorSpec("text", BYTES, (-1,), optional=True),
                TensorSpec("input_ids", "INT64", (-1, -1), optional=True),
                TensorSpec("attention_mask", "INT64", (-1, -1), optional=True),
            ),
            outputs=lambda dimensions: (TensorSpec("embedding", "FP32", (-1, dimensions or -1)),),
            rows=_embedding_rows,
            tensors=_embedding_tensors,
        ),
        Task.CLASSIFICATION: Signature(
            inputs=(_TEXT, msgspec.structs.replace(_PAIR, optional=True)),
            outputs=lambda _: _LABELLED,
            rows=_text_rows,
            tensors=_classes_tensors,
            options=_ALL_LABELS,
        ),
        Task.RERANKING: Signature(
            inputs=(_TEXT, _PAIR),
            outputs=lambda _: _LABELLED,
            rows=_text_rows,
            tensors=_classes_tensors,
            options=_ALL_LABELS,
        ),
        Task.ZERO_SHOT: Signature(
            inputs=(_TEXT, _PAIR),
            outputs=lambda _: (TensorSpec("logits", "FP32", (-1, 2)),),
            rows=_text_rows,
            tensors=_logits_tensors,
        ),
        Task.TOKEN_CLASSIFICATION: Signature(
            inputs=(_TEXT,),
            outputs=lambda _: (TensorSpec("spans", BYTES, (-1,)),),
            rows=_text_rows,
            tensors=_spans_tensors,
        ),
        Task.IMAGE_CLASSIFICATION: Signature(
            inputs=(TensorSpec("image", BYTES, (-1,)),),
            outputs=lambda _: _LABELLED,
            rows=_image_rows,
            tensors=_classes_tensors,
            options=_ALL_LABELS,
        ),
        Task.GENERATION: Signature(
            inputs=(_TEXT,),
            outputs=lambda _: (_TEXT,),
            rows=_text_rows,
            tensors=_generated_tensors,
        ),
        Task.PYTHON: Signature(
            inputs=(TensorSpec("value", BYTES, (-1,)),),
            outputs=lambda _: (TensorSpec("value", BYTES, (-1,)),),
            rows=_python_rows,
            tensors=_echo_tensors,
        ),
        Task.PIPELINE: Signature(
            inputs=(TensorSpec("value", BYTES, (-1,)),),
            outputs=lambda _: (TensorSpec("value", BYTES, (-1,)),),
            rows=_python_rows,
            tensors=_echo_tensors,
        ),
        Task.ECHO: Signature(
            inputs=(TensorSpec("value", BYTES, (-1,)),),
            outputs=lambda _: (TensorSpec("value", BYTES, (-1,)),),
            rows=_echo_rows,
            tensors=_echo_tensors,
        ),
    },
)


def signature_of(spec: ModelSpec, tensors: TensorSignature | None) -> Signature:
    """What a model looks like from here: the one place to ask.

    Args:
        spec: the model.
        tensors: those of its graph, of a model of plain tensors that this gateway knows.

    Raises:
        Unavailable: it is a model of plain tensors, and this gateway can't tell which.
        InvalidInput: its task is not spoken over this protocol.
    """
    if spec.task is Task.TENSORS:
        known = tensor_rows.known(spec, tensors)
        return Signature(
            inputs=known.inputs,
            outputs=lambda _: known.outputs,
            rows=functools.partial(tensor_rows.rows_of, known),
            tensors=tensor_rows.tensors_of,
            rows_first=known.batched,
        )
    found = SIGNATURES.get(spec.task)
    if found is None:
        raise InvalidInput(
            f"{spec.name!r} takes no tensors: ask for its task, {spec.task.value!r}, in another "
            "way. GET / lists them.",
            param="model",
        )
    return found
