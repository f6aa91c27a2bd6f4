"""From a request for text to its answer: what chats, completions and responses have in common.

    body ─▶ Reader ─▶ Form.ask ─▶ rows, sampling
                                      ├─▶ Dispatch.run    ─▶ outputs ─▶ Shape.whole ─▶ one body
                                      └─▶ Dispatch.stream ─▶ chunks  ─▶ Shape.chunk, … .usage
                                                                        ─▶ events, then [DONE]

An event's id is the sequence of its chunk: with the Idempotency-Key of a stream that broke off, and
that id as `Last-Event-ID`, the same request goes on after it, at any gateway.
"""

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.generation import Chunk, Sampling
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Generated, Options, Output, Row, Task
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.openai.faults import render_fault
from forebay.gateway.dialects.openai.parameters import ModelRequest, Refused, TextRequest
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import of_one_row
from forebay.gateway.http import Answer, Call, Header, told
from forebay.gateway.sse import EventStream, event, sequence_of
from forebay.gateway.streaming import Stream

PREDICTION_HEADER: Final = b"x-forebay-prediction"
"""Header of a stream that says which prediction it is of."""

DONE: Final = b"[DONE]"


class Named(msgspec.Struct, frozen=True):
    """What each chunk of an answer, or all of it, says of itself.

    Attributes:
        id: the same in all chunks.
        created: Unix time in seconds.
        model: as it was asked for.
    """

    id: str
    created: int
    model: str


class Shape(Protocol):
    """How one endpoint tells texts; made for one request."""

    @property
    def prefix(self) -> str:
        """Of ids."""
        ...

    def whole(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The body of an answer that comes at once; a text each."""
        ...

    def begin(self, named: Named) -> Sequence[bytes]:
        """The data of events that come before the first chunk's."""
        ...

    def chunk(self, named: Named, chunk: Chunk) -> bytes:
        """The data of the event for a chunk."""
        ...

    def usage(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The data of the event that tells the tokens."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """What a request comes to.

    Attributes:
        spec: the model.
        rows: a text each; those of one prompt follow one another.
        sampling: how.
        param: the request field that the rows were made of.
    """

    spec: ModelSpec
    rows: Sequence[Row]
    sampling: Sampling
    param: str


AnyRequest = TypeVar("AnyRequest", bound=ModelRequest)
SomeText = TypeVar("SomeText", bound=TextRequest)


class Reader(Generic[AnyRequest]):
    """Reads requests for text.

    Args:
        dispatch: knows the models.
        decoder: of the body.
        refused: fields that are not heeded, as `ModelRequest.check` takes them.
    """

    def __init__(
        self, dispatch: Dispatch, decoder: msgspec.json.Decoder[AnyRequest], refused: Refused
    ) -> None:
        self._dispatch = dispatch
        self._decoder = decoder
        self._refused = refused

    def read(self, call: Call) -> tuple[AnyRequest, ModelSpec]:
        """The request, and the model that it is for.

        Raises:
            ForebayError: by kind, why it can't be answered.
        """
        request = decode(self._decoder, call.body)
        request.check(self._refused)
        spec = self._dispatch.registry.model_for(Task.GENERATION, request.model, param="model")
        return request, spec


class Form(msgspec.Struct, Generic[SomeText], frozen=True):
    """What tells one endpoint from another.

    Attributes:
        decoder: of the body.
        refused: fields that are not heeded, as `ModelRequest.check` takes them.
        ask: what a request comes to; raises `InvalidInput` where it can't be asked.
        shape: how its texts are told.
    """

    decoder: msgspec.json.Decoder[SomeText]
    refused: Refused
    ask: Callable[[SomeText, ModelSpec], Asked]
    shape: Callable[[SomeText], Shape]


class Texts(Generic[SomeText]):
    """An endpoint that answers with texts.

    Args:
        dispatch: runs them.
        form: of the endpoint.
    """

    def __init__(self, dispatch: Dispatch, form: Form[SomeText]) -> None:
        self._dispatch = dispatch
        self._form = form
        self._reader = Reader(dispatch, form.decoder, form.refused)

    async def create(self, call: Call) -> Answer | EventStream:
        """The answer to a request, at once or in events.

        Raises:
            ForebayError: by kind, why there is none.
        """
        request, spec = self._reader.read(call)
        asked, shape = self._form.ask(request, spec), self._form.shape(request)
        if request.stream:
            streamed = _Streamed(self._dispatch, call, request, asked, shape)
            return EventStream(
                streamed.events(),
                render=lambda fault: event(render_fault(fault, call.request_id).body),
                headers=streamed.headers,
            )
        try:
            outcome = await self._dispatch.run(
                asked.spec,
                asked.rows,
                options=Options(sampling=asked.sampling),
                name=call.name,
                when_gone=call.when_gone,
                sticky=functools.partial(call.sticky, request.user),
                asker=call,
            )
        except InvalidInput as error:
            name_field(error, asked)
            raise
        id_ = f"{shape.prefix}-{call.request_id.removeprefix('req_')}"
        named = Named(id_, int(time.time()), asked.spec.name)
        body = shape.whole(named, texts_of(asked.spec, outcome.outputs))
        return Answer(body, headers=told(outcome.timing, outcome.of))


class _Streamed:
    """One request's answer in events.

    Args:
        dispatch: runs it.
        call: the request as it came.
        request: as it was read.
        asked: what it comes to.
        shape: how chunks are told.
    """

    def __init__(
        self, dispatch: Dispatch, call: Call, request: TextRequest, asked: Asked, shape: Shape
    ) -> None:
        self._dispatch = dispatch
        self._call = call
        self._request = request
        self._asked = asked
        self._shape = shape
        self._stream: Stream | None = None

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Enqueue it, and make an event of each chunk.

        Raises:
            ForebayError: by kind, why there is no text, or no more of it.
        """
        call, asked, shape = self._call, self._asked, self._shape
        after = sequence_of(call.header(b"last-event-id"))
        begun, last = False, str(after)
        try:
            stream = self._stream = await self._dispatch.stream(
                asked.spec,
                asked.rows,
                options=Options(sampling=asked.sampling),
                after=after,
                name=call.name,
                sticky=functools.partial(call.sticky, self._request.user),
                asker=call,
            )
            with contextlib.closing(stream):
                created = await self._created(stream)
                named = Named(f"{shape.prefix}-{stream.id.text}", created, asked.spec.name)
                async for chunk in stream:
                    if not (begun or after):
                        begun = True
                        first = [event(data, id_=last) for data in shape.begin(named)]
                        if first:
                            yield b"".join(first)
                    last = str(chunk.sequence)
                    if chunk.text or chunk.finish or chunk.logprobs or chunk.calls:
                        yield event(shape.chunk(named, chunk), id_=last)
                if self._request.with_usage and stream.outcome is not None:
                    outputs = texts_of(asked.spec, stream.outcome.outputs)
                    yield event(shape.usage(named, outputs), id_=last)
                yield event(DONE, id_=last)
        except InvalidInput as error:
            name_field(error, asked)
            raise

    async def _created(self, stream: Stream) -> int:
        """When the prediction was made, Unix time in seconds: the same for all who read it."""
        at_ms = stream.created_at_ms
        if at_ms is None:
            at_ms = (await self._dispatch.kept.prediction(stream.id.text)).created_at_ms
        return at_ms // 1000

    def headers(self) -> tuple[Header, ...]:
        """What is known by the first event."""
        if self._stream is None:
            return ()
        which = (PREDICTION_HEADER, self._stream.id.text.encode())
        return (which, *told(None, self._stream.of))


def texts_of(spec: ModelSpec, outputs: Sequence[Output]) -> list[Generated]:
    """Outputs as what they must be.

    Raises:
        ForebayError: one is something else.
    """
    texts = [output for output in outputs if isinstance(output, Generated)]
    if len(texts) < len(outputs):
        raise ForebayError(f"{spec.name!r} answered with something that is no text.")
    return texts


def name_field(error: InvalidInput, asked: Asked) -> None:
    """Say which field is at fault: the worker names the row, which no client knows."""
    error.param = error.param or asked.param
    if len(asked.rows) == 1:
        error.message = of_one_row(error.message)
