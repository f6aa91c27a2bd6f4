"""`POST /v1/embeddings`."""

import functools
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Embedding, Output, Row, Task, TextRow, TokensRow
from forebay.gateway.bodies import decode
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json, told

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Input = str | tuple[str | TokenId | tuple[TokenId, ...], ...]


class EmbeddingsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, as OpenAI documents it, and `truncate`.

    Attributes:
        input: one text, texts, one text as token ids, or texts as token ids.
        dimensions: must be the model's own: there is no cutting of vectors here.
        user: keeps its version of the model, where there are several.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    input: Input
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    truncate: bool = False


class EmbeddingObject(msgspec.Struct, frozen=True):
    """One embedding; `bytes` are rendered as base64."""

    index: int
    embedding: bytes | tuple[float, ...]
    object: str = "embedding"


class Usage(msgspec.Struct, frozen=True):
    """Tokens that were run, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True):
    """The answer."""

    data: list[EmbeddingObject]
    model: str
    usage: Usage
    object: str = "list"


_request = msgspec.json.Decoder(EmbeddingsRequest)


class Embeddings:
    """Answers with embeddings.

    Args:
        dispatch: runs them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def create(self, call: Call) -> Answer:
        """Embed the input.

        Raises:
            ForebayError: by kind, why not.
        """
        request = decode(_request, call.body)
        spec = self._dispatch.registry.model(request.model, param="model")
        if spec.task is not Task.EMBEDDING:
            raise InvalidInput(
                f"{spec.name!r} makes no embeddings: its task is {spec.task.value!r}.",
                param="model",
            )
        if request.dimensions is not None:
            made = self._dispatch.registry.dimensions(spec)
            if made is not None:
                _check_dimensions(spec.name, wanted=request.dimensions, made=made)
        rows = rows_of(request.input, most=self._dispatch.max_inputs)
        try:
            outcome = await self._dispatch.run(
                spec,
                rows,
                truncate=request.truncate,
                name=call.name,
                when_gone=call.when_gone,
                sticky=functools.partial(call.sticky, request.user),
                asker=call,
            )
        except InvalidInput as error:
            name_item(error)
            raise
        body = render(
            outcome.outputs,
            model=spec.name,
            base64=request.encoding_format == "base64",
            dimensions=request.dimensions,
        )
        return Answer(body, headers=told(outcome.timing, outcome.of))


def rows_of(given: Input, *, most: int, field: str = "input") -> tuple[Row, ...]:
    """The rows of an `input`, or of another field that is like it.

    Args:
        given: one text, texts, one text as ids, or texts as ids.
        most: rows in one request.
        field: its name.

    Raises:
        InvalidInput: nothing is in it, too much is, or it mixes kinds.
    """
    if isinstance(given, str):
        if not given:
            raise _empty(field)
        return (TextRow(given),)
    if not given:
        raise _empty(field)
    ids = [item for item in given if isinstance(item, int)]
    if len(ids) == len(given):
        return (TokensRow(tuple(ids)),)
    if len(given) > most:
        raise InvalidInput(
            f"{field} has {len(given):,} items; one request takes {most:,} at most.", param=field
        )
    texts = [TextRow(item) for item in given if isinstance(item, str)]
    rows: Sequence[Row] = texts or [TokensRow(i) for i in given if isinstance(i, tuple)]
    if len(rows) < len(given):
        raise InvalidInput(
            f"{field} must be a text, a list of texts, a list of token ids, or a list of lists of "
            "token ids, not a mixture.",
            param=field,
        )
    for index, item in enumerate(given):
        if not item:
            raise _empty(f"{field}[{index}]")
    return tuple(rows)


def name_item(error: InvalidInput) -> None:
    """Say which item of `input` is at fault: the worker names the row, which no client knows."""
    param = "input" if error.row is None else f"input[{error.row}]"
    error.param = error.param or param


def render(outputs: Sequence[Output], *, model: str, base64: bool, dimensions: int | None) -> bytes:
    """The answer's body.

    Args:
        outputs: embeddings, in the order of the input.
        model: its name.
        base64: render vectors as base64 of little-endian float32, else as numbers. As numbers
            they are the float32's exact value.
        dimensions: what the client wants them to have.

    Raises:
        InvalidInput: the vectors have other dimensions than the client wants.
    """
    data: list[EmbeddingObject] = []
    tokens = 0
    for index, output in enumerate(outputs):
        if not isinstance(output, Embedding):
            raise ForebayError(f"{model!r} answered with something that is no embedding.")
        vector = output.vector
        size = len(vector) // 4
        if dimensions is not None:
            _check_dimensions(model, wanted=dimensions, made=size)
        tokens += output.tokens
        data.append(
            EmbeddingObject(index, vector if base64 else struct.unpack(f"<{size}f", vector))
        )
    return to_json(EmbeddingList(data, model, Usage(tokens, tokens)))


def _check_dimensions(model: str, *, wanted: int, made: int) -> None:
    if wanted != made:
        raise InvalidInput(
            f"{model!r} makes {made} dimensions, and can't make {wanted}: leave `dimensions` out.",
            param="dimensions",
        )


def _empty(where: str) -> InvalidInput:
    return InvalidInput(f"{where} must not be empty.", param=where)
