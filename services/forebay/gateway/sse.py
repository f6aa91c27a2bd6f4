"""Answers that come event by event: Server-Sent Events, over one long response.

    generator ─▶ pump ─▶ send ─▶ client
                   │
                 heart: a comment whenever nothing has come for a while

The head waits for the first event, so that what is refused before there is one is an error with its
own status; it waits no longer than a heartbeat. A client that reads slowly holds up its own pump
alone, and a client that goes away ends it: the generator is then closed, and has to clean up.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import msgspec
from starlette.types import Send

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.gateway.errors import Fault, fault_of, unexpected

KEEP_ALIVE_S: Final = 15.0
"""After so long without an event a comment is sent: proxies cut what is silent."""

LAST_EVENT_ID: Final = "Last-Event-ID"
"""The header that says which event a reader has last."""

_SEQUENCE: Final = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)

_COMMENT: Final = b": keep-alive\n"
"""Without a blank line, which would end an event: OpenAI's client takes one for an event that has
nothing but the id of the event before it, and fails to read it."""

EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")

_HEADERS: Final = (
    EVENTS,
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back otherwise
)


def event(data: bytes, *, id_: str | None = None, name: str | None = None) -> bytes:
    r"""One event as it is sent.

    Args:
        data: UTF-8; a line of the event for each of its lines, which a client joins by `\n`.
            There is no way to say `\r`: where that matters, data has to be JSON.
        id_: what a client sends as `Last-Event-ID` to go on after it.
        name: its kind; a client takes none for `message`.
    """
    head = b"" if name is None else b"event: %s\n" % name.encode()
    if id_ is not None:
        head += b"id: %s\n" % id_.encode()
    if b"\n" not in data and b"\r" not in data:
        return b"%sdata: %s\n\n" % (head, data)
    # Not splitlines(): an event's line ends are these three and no others, and the last counts.
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: %s\n" % line for line in lines) + b"\n"


def sequence_of(header: bytes) -> int:
    """The sequence that a `Last-Event-ID` header tells; 0 if it is not there.

    Raises:
        InvalidInput: it is no id that an event here has.
    """
    text = header.decode("latin-1").strip()
    if not text:
        return 0
    if _SEQUENCE.fullmatch(text):
        return int(text)
    raise InvalidInput(
        "Last-Event-ID takes the id of an event that came, which is a number.",
        param=LAST_EVENT_ID,
    )


class EventStream(msgspec.Struct, frozen=True):
    """An answer in events.

    Attributes:
        events: makes them, each encoded; is closed when nobody reads on. It enqueues what it tells
            of, rather than who made it: only once it runs is it seen if the client goes away.
        render: tells a fault, once the head is sent.
        headers: asked for further ones when the head is sent.
    """

    events: AsyncGenerator[bytes, None]
    render: Callable[[Fault], bytes]
    headers: Callable[[], tuple[tuple[bytes, bytes], ...]] = tuple


class Streaming:
    """One such answer on its way.

    Args:
        answer: what is sent.
        send: ASGI's.
        request_id: told to the client, and in the log.
        refuse: answers with a fault instead, as long as nothing is sent.
        keep_alive_s: longest silence.
    """

    def __init__(
        self,
        answer: EventStream,
        send: Send,
        request_id: str,
        *,
        refuse: Callable[[Fault], Awaitable[None]],
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._answer = answer
        self._send = send
        self._request_id = request_id
        self._refuse = refuse
        self._keep_alive_s = keep_alive_s
        self._started = False
        self._sending = False
        self._sent_at = asyncio.get_running_loop().time()

    async def run(self, when_gone: Callable[[Callable[[], None]], None]) -> None:
        """Send all of it.

        Args:
            when_gone: takes what is to be called if the client goes away.
        """
        pump = asyncio.create_task(self._pump(), name=f"stream {self._request_id}")

        def leave() -> None:
            pump.cancel()

        when_gone(leave)
        try:
            while not pump.done():
                await asyncio.wait({pump}, timeout=self._until_comment_s())
                if not pump.done() and self._until_comment_s() <= 0:
                    await self._send_body(_COMMENT)
        finally:
            pump.cancel()
            await asyncio.wait({pump})
        if not pump.cancelled():
            pump.result()

    async def _pump(self) -> None:
        fault: Fault | None = None
        try:
            async with contextlib.aclosing(self._answer.events) as events:
                async for encoded in events:
                    await self._send_body(encoded)
        except ForebayError as error:
            fault = fault_of(error)
        except Exception as error:
            fault = unexpected(error, self._request_id)
        if fault is not None:
            if not self._started:
                self._started = True
                await self._refuse(fault)
                return
            await self._send_body(self._answer.render(fault))
        await self._send_body(b"", more=False)

    def _until_comment_s(self) -> float:
        """Until a comment is due; who hasn't yet read what was sent before needs none."""
        if self._sending:
            return self._keep_alive_s
        return self._sent_at + self._keep_alive_s - asyncio.get_running_loop().time()

    async def _send_body(self, body: bytes, *, more: bool = True) -> None:
        self._sending = True
        try:
            if not self._started:
                self._started = True
                await self._send_head()
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        finally:
            self._sending = False
            self._sent_at = asyncio.get_running_loop().time()

    async def _send_head(self) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    *_HEADERS,
                    (b"x-request-id", self._request_id.encode()),
                    *self._answer.headers(),
                ],
            }
        )
