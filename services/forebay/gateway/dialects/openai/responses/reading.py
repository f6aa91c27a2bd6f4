"""From a prediction that grows, or has grown, to the events of its response."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.prediction import Prediction
from forebay.gateway.dialects.openai.faults import code_of
from forebay.gateway.dialects.openai.responses.conversation import name_field
from forebay.gateway.dialects.openai.responses.telling import Telling, chunk_before
from forebay.gateway.dialects.openai.responses.terms import Terms
from forebay.gateway.dialects.openai.texts import PREDICTION_HEADER
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import Fault
from forebay.gateway.http import Header, told
from forebay.gateway.sse import LAST_EVENT_ID, EventStream
from forebay.gateway.streaming import Stream


class Reading:
    """One reader of one response.

    Args:
        dispatch: reads its prediction.
        terms: what its request said.
        after: number of the last event that the reader has; -1 if it has none.
        told_by: what the reader says that by.
    """

    def __init__(
        self, dispatch: Dispatch, terms: Terms, *, after: int, told_by: str = LAST_EVENT_ID
    ) -> None:
        self._told_by = told_by
        self._dispatch = dispatch
        self._terms = terms
        self._after = after
        self._stream: Stream | None = None
        self._telling: Telling | None = None

    def answer(self, events: AsyncGenerator[bytes, None]) -> EventStream:
        """The answer that these events are, which are one of the following."""
        return EventStream(events, self._broken, self._headers)

    async def of_stored(
        self, find: Callable[[], Awaitable[Prediction]]
    ) -> AsyncGenerator[bytes, None]:
        """Events of a response that is there: the first ones come at once.

        Args:
            find: its prediction, or makes it.

        Raises:
            ForebayError: by kind, why there are none, or no more.
        """
        prediction = await find()
        telling = self._telling = Telling(prediction, self._terms, after=self._after)
        stream = self._stream = await self._resumed(prediction.id)
        with contextlib.closing(stream):
            if begun := telling.begin():
                yield begun
            async for events in self._told(stream, telling):
                yield events

    async def of_new(
        self, open_: Callable[[int], Awaitable[Stream]]
    ) -> AsyncGenerator[bytes, None]:
        """Events of a response whose client waits: none before there is a text.

        So what is refused until then is an answer with its own status.

        Args:
            open_: begins to read it, on from a chunk.

        Raises:
            ForebayError: by kind, why there are none, or no more.
        """
        try:
            stream = self._stream = await self._opened(open_)
            with contextlib.closing(stream):
                first = await anext(stream, None)
                prediction = await self._dispatch.kept.prediction(stream.id.text)
                telling = self._telling = Telling(prediction, self._terms, after=self._after)
                events = telling.begin() + (b"" if first is None else telling.chunk(first))
                if events:
                    yield events
                async for events in self._told(stream, telling):
                    yield events
        except InvalidInput as error:
            name_field(error)
            raise

    async def _opened(self, open_: Callable[[int], Awaitable[Stream]]) -> Stream:
        """The stream, on from what the reader has."""
        if self._after < 0:
            return await open_(0)
        after = chunk_before(self._after, self._terms)
        # From a chunk on, so that it is not begun anew where it is no longer there.
        stream = await open_(max(after, 1))
        if after:
            return stream
        stream.close()
        return await self._resumed(stream.id.text)

    async def _resumed(self, prediction: str) -> Stream:
        after = chunk_before(self._after, self._terms)
        try:
            return await self._dispatch.resume(prediction, after=after)
        except InvalidInput as error:
            if error.param != LAST_EVENT_ID:
                raise
            raise self._no_event() from None

    async def _told(self, stream: Stream, telling: Telling) -> AsyncGenerator[bytes, None]:
        """Events of the chunks that follow, and of the end."""
        try:
            async for chunk in stream:
                if events := telling.chunk(chunk):
                    yield events
        except ForebayError:
            ended = await self._dispatch.kept.prediction(stream.id.text)
            if not ended.status.terminal:
                raise  # it is the reading that has ended
        else:
            ended = await self._dispatch.kept.prediction(stream.id.text)
        if events := telling.end(ended):
            yield events
        if telling.overshot:
            raise self._no_event()

    def _no_event(self) -> InvalidInput:
        return InvalidInput(
            f"No event that came has the number in {self._told_by}: send that of the last one "
            "that did, or none to begin anew.",
            param=self._told_by,
        )

    def _broken(self, fault: Fault) -> bytes:
        telling = self._telling
        assert telling is not None, "a fault without any event before it is no event"
        return telling.broken(fault, code_of(fault))

    def _headers(self) -> tuple[Header, ...]:
        """What is known by the first event."""
        stream = self._stream
        if stream is None:
            return ()
        return ((PREDICTION_HEADER, stream.id.text.encode()), *told(None, stream.of))
