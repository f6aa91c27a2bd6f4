"""`/v1/responses`: make, show, cancel, delete.

background  stream   what it is                           lane
no          no       the client waits for the end         realtime
no          yes      it is canceled if its reader goes    realtime
yes         no       the answer comes at once             bulk
yes         yes      the reader may go and come back      bulk
"""

import functools
import math
import time
from typing import Final

import msgspec

from forebay.contract.errors import DeadlineExceeded, InvalidInput, NotFound
from forebay.contract.model import ModelSpec
from forebay.contract.notices import Dialect, Event, Notice
from forebay.contract.prediction import Lane, Prediction, Status, Timing
from forebay.contract.rows import ChatRow, Options
from forebay.gateway.chats import ChatMessage
from forebay.gateway.dialects.openai.queries import flag_of, query_of
from forebay.gateway.dialects.openai.responses.conversation import (
    Kept,
    after,
    begun,
    kept_of,
    name_field,
    no_response,
)
from forebay.gateway.dialects.openai.responses.given import messages_of
from forebay.gateway.dialects.openai.responses.items import items_of, page_of
from forebay.gateway.dialects.openai.responses.reading import Reading
from forebay.gateway.dialects.openai.responses.rendering import PREFIX, Deleted, response_of
from forebay.gateway.dialects.openai.responses.terms import REFUSED, ResponseRequest, Terms
from forebay.gateway.dialects.openai.texts import Reader
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import raised
from forebay.gateway.http import Answer, Call, to_json, told
from forebay.gateway.sse import EventStream, sequence_of
from forebay.gateway.streaming import Stream

_PREVIOUS: Final = "previous_response_id"

_AFTER: Final = "starting_after"
_OBFUSCATION: Final = "include_obfuscation"

_SHOWN: Final = ("stream", _AFTER, "include", "include[]", _OBFUSCATION)
_LISTED: Final = ("after", "include", "include[]", "limit", "order")
"""Parameters of queries. What is included was said when the response was made."""

_request = msgspec.json.Decoder(ResponseRequest)


class _Asked(msgspec.Struct, frozen=True):
    """One request, ready to be run.

    Attributes:
        call: as it came.
        request: as it was read.
        spec: the model.
        kept: what is kept of it.
        row: what the worker is to go on with.
        options: how the worker is to go on.
    """

    call: Call
    request: ResponseRequest
    spec: ModelSpec
    kept: Kept
    row: ChatRow
    options: Options

    @property
    def input_json(self) -> bytes:
        """What is kept with the prediction; empty where the response is not to be stored."""
        return to_json(self.kept) if self.request.stored else b""

    def sticky(self) -> str:
        """What keeps its version of the model."""
        return self.call.sticky(self.request.whose)


class Responses:
    """Makes responses and shows them.

    Args:
        dispatch: runs them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._reader = Reader(dispatch, _request, REFUSED)

    async def create(self, call: Call) -> Answer | EventStream:
        """Make one.

        Raises:
            ForebayError: by kind, why none was made, or what became of it.
        """
        request, spec = self._reader.read(call)
        messages = () if request.input is None else messages_of(request.input)
        if request.input is None and request.previous_response_id is None:
            raise InvalidInput("Missing parameter: 'input'.", param="input")
        before = await self._before(request.previous_response_id)
        kept = begun(request, before, messages)
        asked = _Asked(
            call,
            request,
            spec,
            kept,
            kept.row(request.to_call()),
            Options(sampling=request.to_sample()),
        )
        if request.stream:
            return self._streamed(asked)
        if not request.stored:
            return await self._run(asked)
        prediction = await (self._made if request.background else self._waited_for)(asked)
        return self._shown(prediction, request, timing=prediction.timing)

    async def get(self, call: Call) -> Answer | EventStream:
        """Show one, in events if the query says so.

        Raises:
            NotFound: there is none, or it is no longer kept.
            InvalidInput: the query is wrong.
            Unavailable: Redis is out of reach.
        """
        query = query_of(call, _SHOWN)
        streamed = flag_of(query, "stream")
        number = _number(query[_AFTER]) if _AFTER in query else -1
        if flag_of(query, _OBFUSCATION):
            raise InvalidInput(
                f"{_OBFUSCATION} is not available here: leave it out.", param=_OBFUSCATION
            )
        prediction, kept = await self._stored(call)
        if not streamed:
            return self._shown(prediction, kept.response)
        reading = Reading(self._dispatch, kept.response, after=number, told_by=_AFTER)

        async def found() -> Prediction:
            return prediction

        return reading.answer(reading.of_stored(found))

    async def cancel(self, call: Call) -> Answer:
        """Cancel one in the background, and show it; one that has ended stays as it is.

        Raises:
            InvalidInput: it is not in the background: who waits for it ends it by going.
            NotFound: there is none, or it is no longer kept.
            Unavailable: Redis is out of reach.
        """
        prediction, kept = await self._stored(call)
        if not kept.response.background:
            raise InvalidInput(
                "Only responses created with `background: true` can be cancelled. Any other ends "
                "when its client goes; DELETE ends and deletes it."
            )
        return self._shown(await self._dispatch.kept.cancel(prediction.id), kept.response)

    async def delete(self, call: Call) -> Answer:
        """Delete one. What it is doing is canceled.

        Raises:
            NotFound: there is none, or it is no longer kept.
            Unavailable: Redis is out of reach.
        """
        prediction, _ = await self._stored(call)
        await self._dispatch.kept.forget(prediction.id)
        return Answer(to_json(Deleted(f"{PREFIX}{prediction.id}")))

    async def input_items(self, call: Call) -> Answer:
        """What the model was given, but for the instructions: a page of it.

        Raises:
            NotFound: there is none, or it is no longer kept.
            InvalidInput: the query is wrong.
            Unavailable: Redis is out of reach.
        """
        query = query_of(call, _LISTED)
        prediction, kept = await self._stored(call)
        return Answer(to_json(page_of(items_of(prediction.id, kept.conversation), query)))

    async def _before(self, previous: str | None) -> tuple[ChatMessage, ...]:
        """The conversation that goes on."""
        if previous is None:
            return ()
        return after(*await self._found(previous, param=_PREVIOUS), _PREVIOUS)

    def _streamed(self, asked: _Asked) -> EventStream:
        header = asked.call.header(b"last-event-id")
        number = sequence_of(header) if header else -1
        reading = Reading(self._dispatch, asked.request, after=number)
        if asked.request.background:
            return reading.answer(reading.of_stored(functools.partial(self._made, asked)))
        return reading.answer(reading.of_new(functools.partial(self._opened, asked)))

    async def _opened(self, asked: _Asked, chunk: int) -> Stream:
        """Begin one whose reader is there, or go on with it after a chunk."""
        return await self._dispatch.stream(
            asked.spec,
            (asked.row,),
            options=asked.options,
            input_json=asked.input_json,
            after=chunk,
            name=asked.call.name,
            sticky=asked.sticky,
            asker=asked.call,
        )

    async def _made(self, asked: _Asked) -> Prediction:
        """Begin one in the background."""
        return await self._dispatch.create(
            asked.spec,
            (asked.row,),
            input_json=asked.input_json,
            options=asked.options,
            name=asked.call.name,
            sticky=asked.sticky,
            stream=bool(asked.request.stream),
            lane=Lane.BULK,
            asker=asked.call,
            notice=Notice((Event.COMPLETED,), Dialect.OPENAI, prefix=PREFIX),
        )

    async def _waited_for(self, asked: _Asked) -> Prediction:
        """Run one to its end, which its client waits for."""
        name = asked.call.name
        prediction = await self._dispatch.create(
            asked.spec,
            (asked.row,),
            input_json=asked.input_json,
            options=asked.options,
            wait_s=math.inf,
            name=name,
            when_gone=asked.call.when_gone,
            sticky=asked.sticky,
            asker=asked.call,
        )
        if not prediction.status.terminal and name is None:
            # Its client has never heard its id: nobody could come back for it.
            prediction = await self._dispatch.kept.cancel(prediction.id)
        if not prediction.status.terminal or prediction.status is Status.CANCELED:
            raise DeadlineExceeded("The response was not done in time. Send it again.")
        if prediction.status is not Status.SUCCEEDED:
            error = raised(prediction.error)
            if isinstance(error, InvalidInput):
                name_field(error)
            raise error
        return prediction

    async def _run(self, asked: _Asked) -> Answer:
        """Run one that is not stored to its end."""
        began_ms = int(time.time() * 1000)
        try:
            outcome = await self._dispatch.run(
                asked.spec,
                (asked.row,),
                options=asked.options,
                name=asked.call.name,
                when_gone=asked.call.when_gone,
                sticky=asked.sticky,
                asker=asked.call,
            )
        except InvalidInput as error:
            name_field(error)
            raise
        prediction = Prediction(
            id=asked.call.request_id.removeprefix("req_"),
            model=asked.spec.name,
            version=outcome.version,
            status=Status.SUCCEEDED,
            created_at_ms=began_ms,
            completed_at_ms=int(time.time() * 1000),
            deadline_at_ms=began_ms,
            outputs=tuple(outcome.outputs),
        )
        headers = told(outcome.timing, outcome.of)
        return Answer(to_json(response_of(prediction, asked.request)), headers=headers)

    def _shown(
        self, prediction: Prediction, terms: Terms, *, timing: Timing | None = None
    ) -> Answer:
        headers = told(timing, self._dispatch.registry.which(prediction))
        return Answer(to_json(response_of(prediction, terms)), headers=headers)

    async def _stored(self, call: Call) -> tuple[Prediction, Kept]:
        return await self._found(call.path_param("id"))

    async def _found(self, text: str, *, param: str | None = None) -> tuple[Prediction, Kept]:
        """A response's prediction, and what is kept of its request."""
        if text.startswith(PREFIX):
            try:
                prediction = await self._dispatch.kept.prediction(text.removeprefix(PREFIX))
            except NotFound:
                raise no_response(text, param) from None
            if (kept := kept_of(prediction.input)) is not None:
                return prediction, kept
        raise no_response(text, param)


def _number(text: str) -> int:
    try:
        return sequence_of(text.encode())
    except InvalidInput:
        raise InvalidInput(
            "starting_after takes the sequence_number of an event that came.",
            param="starting_after",
        ) from None
