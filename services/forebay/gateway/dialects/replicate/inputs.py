"""The `input` of each task, and the rows and options that it comes to."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    Aggregation,
    Function,
    ImageRow,
    Options,
    PairRow,
    Row,
    Task,
    TextRow,
    ValueRow,
)
from forebay.contract.tensors import TensorSignature
from forebay.gateway import images, reranking, tensor_json, tensor_rows, zero_shot
from forebay.gateway.bodies import check_depth, decode
from forebay.gateway.chats import ChatMessage, chat_of
from forebay.gateway.fetching import is_address
from forebay.gateway.generation import MAX_TEXTS, SamplingFields
from forebay.gateway.pairs import check_size

TopK = Annotated[int, Meta(ge=1, le=1_000_000)]


class TextInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of an embedding model.

    Attributes:
        text: one text, or texts.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    text: str | tuple[str, ...]
    truncate: bool = False


class ClassesInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a classifier and, with `pair`, of a reranker.

    Attributes:
        text: one text, or texts.
        pair: the second text of each; with one `text` and several of these it goes with all.
        top_k: labels to tell, the best ones; null tells all.
        function_to_apply: makes the scores; the model's own if not given.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    text: str | tuple[str, ...]
    pair: str | tuple[str, ...] | None = None
    top_k: TopK | UnsetType | None = UNSET
    function_to_apply: Function | None = None
    truncate: bool = False

    @property
    def options(self) -> Options:
        """What is asked of the outputs."""
        top_k = 1 if self.top_k is UNSET else self.top_k or 0
        return Options(top_k, self.function_to_apply)


class DocumentsInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a reranker that is to order documents.

    Attributes:
        query: what the documents are held against.
        documents: texts, or objects with a `text`.
        top_n: documents to tell, the best ones; all if not given.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    query: str
    documents: tuple[str | reranking.Document, ...]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool = False


class SpansInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a model that labels parts of texts.

    Attributes:
        text: one text, or texts.
        aggregation_strategy: `simple` makes one span of tokens that belong together.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    text: str | tuple[str, ...]
    aggregation_strategy: Aggregation = Aggregation.NONE
    truncate: bool = False


class LabelsInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a zero-shot classifier.

    Attributes:
        text: one text, or texts.
        labels: what a text may be; in one string they are separated by commas.
        hypothesis_template: a sentence with `{}` where the label goes.
        multi_label: score each label by itself.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    text: str | tuple[str, ...]
    labels: str | tuple[str, ...]
    hypothesis_template: str = zero_shot.TEMPLATE
    multi_label: bool = False
    truncate: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, one by one."""
        if isinstance(self.labels, str):
            return tuple(name.strip() for name in self.labels.split(",") if name.strip())
        return self.labels


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of an image classifier.

    Attributes:
        image: the address of a file, a `data:` URL, or base64; or several.
        top_k: labels to tell, the best ones; five if not given, null tells all.
        function_to_apply: makes the scores; the model's own if not given.
    """

    image: str | tuple[str, ...]
    top_k: TopK | None = 5
    function_to_apply: Function | None = None


class GenerationInput(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Input of a model that generates text: a prompt, or a chat; and how.

    Attributes:
        prompt: a text to go on with, or texts.
        messages: a chat to go on with; the model's own template makes a prompt of it.
    """

    prompt: str | tuple[str, ...] | None = None
    messages: tuple[ChatMessage, ...] | None = None


class EchoInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of an echo model: any JSON value."""

    value: msgspec.Raw


class Asked(msgspec.Struct, frozen=True):
    """What an input comes to.

    Attributes:
        rows: at least one.
        single: whether the output is that of one item rather than a list.
        truncate: cut over-long rows.
        options: of the outputs.
    """

    rows: tuple[Row, ...]
    single: bool
    truncate: bool = False
    options: Options = DEFAULT_OPTIONS


_text = msgspec.json.Decoder(TextInput)
_classes = msgspec.json.Decoder(ClassesInput)
_documents = msgspec.json.Decoder(DocumentsInput)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_spans = msgspec.json.Decoder(SpansInput)
_labels = msgspec.json.Decoder(LabelsInput)
_image = msgspec.json.Decoder(ImageInput)
_generation = msgspec.json.Decoder(GenerationInput)
_echo = msgspec.json.Decoder(EchoInput)
_any = msgspec.json.Decoder()
_objects = msgspec.json.Decoder(dict[str, Any] | tuple[dict[str, Any], ...])
_raws = msgspec.json.Decoder(tuple[msgspec.Raw, ...])


def rows_of(
    spec: ModelSpec,
    input_json: msgspec.Raw,
    *,
    most: int,
    tensors: TensorSignature | None = None,
) -> Asked:
    """The rows of an `input`; images that have to be fetched are `images_of`'s.

    Args:
        spec: whose task says what an input looks like.
        input_json: the input as it came.
        most: rows in one request.
        tensors: those of its graph, of a model of plain tensors.

    Raises:
        Unavailable: it is a model of plain tensors, and this gateway doesn't know them.
        InvalidInput: it is not what the task takes; `param` names the field.
    """
    match spec.task:
        case Task.EMBEDDING:
            given = decode(_text, input_json, within="input")
            return Asked(_rows(given.text, most), isinstance(given.text, str), given.truncate)
        case Task.RERANKING:
            return _reranking_asked(spec, input_json, most)
        case Task.CLASSIFICATION:
            return _classes_asked(spec, decode(_classes, input_json, within="input"), most)
        case Task.TOKEN_CLASSIFICATION:
            spans = decode(_spans, input_json, within="input")
            return Asked(
                _rows(spans.text, most),
                isinstance(spans.text, str),
                spans.truncate,
                Options(aggregation=spans.aggregation_strategy),
            )
        case Task.ZERO_SHOT:
            labels = decode(_labels, input_json, within="input")
            return Asked(_questions(labels, most), isinstance(labels.text, str), labels.truncate)
        case Task.IMAGE_CLASSIFICATION:
            return images_of(input_json, most=most).asked()
        case Task.TENSORS:
            return _tensors_asked(tensor_rows.known(spec, tensors), input_json, most)
        case Task.GENERATION:
            return _texts_asked(decode(_generation, input_json, within="input"))
        case Task.ECHO:
            value = decode(_echo, input_json, within="input").value
            # A value that is kept as it came must be one that can be read back.
            check_depth(decode(_any, value, within="input.value"), param="input.value")
            return Asked((ValueRow(bytes(value)),), single=True)
        case Task.PYTHON | Task.PIPELINE:
            return _rows_as_they_came(input_json, most)


def is_of_documents(fields: Mapping[str, Any]) -> bool:
    """Whether an input is a query and documents, rather than texts and pairs."""
    return "query" in fields or "documents" in fields


def _rows_as_they_came(input_json: msgspec.Raw, most: int) -> Asked:
    """A python model's rows: one object, or a list of them. The worker knows what is in one."""
    given = decode(_objects, input_json, within="input")
    check_depth(given if isinstance(given, dict) else list(given), param="input")
    if isinstance(given, dict):
        return Asked((ValueRow(bytes(input_json)),), single=True)
    if not given:
        raise _empty("input")
    _check_count(len(given), most, "input")
    rows = tuple(ValueRow(bytes(row)) for row in decode(_raws, input_json, within="input"))
    return Asked(rows, single=False)


class Images:
    """Images of an input, some of which may have to be fetched first.

    Args:
        given: the input.
        most: rows in one request.

    Raises:
        InvalidInput: there are none or too many.
    """

    def __init__(self, given: ImageInput, most: int) -> None:
        self._given = given
        self._single = isinstance(given.image, str)
        found = texts_of(given.image, most, field="image")
        self._named = {
            "input.image" if self._single else f"input.image[{index}]": text
            for index, text in enumerate(found)
        }

    @property
    def addresses(self) -> dict[str, str]:
        """What is to be fetched: URLs by the field that holds each."""
        return {param: text for param, text in self._named.items() if is_address(text)}

    def asked(self, fetched: Mapping[str, bytes] = images.NONE_FETCHED) -> Asked:
        """The rows.

        Args:
            fetched: what was at the addresses, by field.

        Raises:
            InvalidInput: one is no image, or was not fetched; `param` names the field.
        """
        rows = tuple(
            ImageRow(images.bytes_of(text, param=param, fetched=fetched))
            for param, text in self._named.items()
        )
        options = Options(self._given.top_k or 0, self._given.function_to_apply)
        return Asked(rows, self._single, options=options)


def images_of(input_json: msgspec.Raw, *, most: int) -> Images:
    """The images of an `input`.

    Raises:
        InvalidInput: it is none of images, or of too many.
    """
    return Images(decode(_image, input_json, within="input"), most)


def _texts_asked(given: GenerationInput) -> Asked:
    options = Options(sampling=given.sampling(within="input."))
    if (given.prompt is None) == (given.messages is None):
        raise InvalidInput("Give a prompt or messages, one of them.", param="input.prompt")
    if given.messages is not None:
        return Asked((chat_of(given.messages, within="input."),), single=True, options=options)
    assert given.prompt is not None
    prompts = texts_of(given.prompt, MAX_TEXTS, field="prompt")
    rows = tuple(map(TextRow, prompts))
    return Asked(rows, isinstance(given.prompt, str), options=options)


def _tensors_asked(signature: TensorSignature, input_json: msgspec.Raw, most: int) -> Asked:
    fields = decode(_fields, input_json, within="input")
    most_rows = most if signature.batched else None
    given = tensor_json.read(fields, signature.inputs, most_rows=most_rows, within="input")
    return Asked(tuple(tensor_rows.rows_of(signature, given)), single=True)


def _reranking_asked(spec: ModelSpec, input_json: msgspec.Raw, most: int) -> Asked:
    fields = decode(_fields, input_json, within="input")
    if not is_of_documents(fields):
        return _classes_asked(spec, decode(_classes, input_json, within="input"), most)
    given = decode(_documents, input_json, within="input")
    rows = reranking.questions(given.query, given.documents, most=most, within="input.")
    return Asked(rows, single=False, truncate=given.truncate)


def _classes_asked(spec: ModelSpec, given: ClassesInput, most: int) -> Asked:
    single = isinstance(given.text, str)
    if given.pair is not None:
        single = single and isinstance(given.pair, str)
        rows: tuple[Row, ...] = _pairs(given.text, given.pair, most)
    elif spec.task is Task.RERANKING:
        raise InvalidInput(
            f"{spec.name!r} holds texts against one another: give a pair too, or query and "
            "documents.",
            param="input.pair",
        )
    else:
        rows = _rows(given.text, most)
    return Asked(rows, single, given.truncate, given.options)


def _rows(given: str | tuple[str, ...], most: int) -> tuple[Row, ...]:
    return tuple([TextRow(text) for text in texts_of(given, most)])


def texts_of(given: str | tuple[str, ...], most: int, *, field: str = "text") -> tuple[str, ...]:
    """The texts of a field, none of them empty.

    Raises:
        InvalidInput: there are none or too many, or one is empty.
    """
    where = f"input.{field}"
    if isinstance(given, str):
        given = (given,)
        if not given[0]:
            raise _empty(where)
    if not given:
        raise _empty(where)
    _check_count(len(given), most, where)
    for index, text in enumerate(given):
        if not text:
            raise _empty(f"{where}[{index}]")
    return given


def _pairs(
    text: str | tuple[str, ...], pair: str | tuple[str, ...], most: int
) -> tuple[PairRow, ...]:
    seconds = texts_of(pair, most, field="pair")
    firsts = texts_of(text, most)
    if isinstance(text, str) and not isinstance(pair, str):
        check_size(len(text) * len(pair), param="input.text")
        firsts = firsts * len(seconds)
    if len(firsts) != len(seconds):
        raise InvalidInput(
            f"input.pair has {len(seconds):,} items and input.text {len(firsts):,}: give one for "
            "each, or one text for all.",
            param="input.pair",
        )
    return tuple(map(PairRow, firsts, seconds))


def _questions(given: LabelsInput, most: int) -> tuple[PairRow, ...]:
    texts, labels = texts_of(given.text, most), texts_of(given.names, most, field="labels")
    _check_count(len(texts) * len(labels), most, "input.labels", "texts times labels")
    size = sum(map(len, texts)) * len(labels)
    size += len(given.hypothesis_template) * len(texts) * len(labels)
    check_size(size, param="input.text")
    return tuple(
        row
        for text in texts
        for row in zero_shot.questions(text, labels, given.hypothesis_template)
    )


def _check_count(items: int, most: int, where: str, what: str = "items") -> None:
    if items > most:
        raise InvalidInput(
            f"{where} has {items:,} {what}; one request takes {most:,} at most.", param=where
        )


def _empty(where: str) -> InvalidInput:
    return InvalidInput(f"{where} must not be empty.", param=where)
