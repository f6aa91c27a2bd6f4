"""Answers in events: how an event is written, and what a response makes of its generator."""

import asyncio
from collections.abc import AsyncGenerator, Callable, MutableMapping
from typing import Any

import pytest
from openai._streaming import SSEDecoder

from forebay.contract.errors import ErrorKind, LaneFull
from forebay.gateway.errors import Fault
from forebay.gateway.sse import EventStream, Streaming, event
from tests.fixtures.waiting import eventually

Message = MutableMapping[str, Any]


class Client:
    """What a response has sent; reads on only while it is let."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.leave: Callable[[], None] = lambda: None

    async def __call__(self, message: Message) -> None:
        await self.reading.wait()
        self.messages.append(message)

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Remember what is to be told."""
        self.leave = tell

    @property
    def body(self) -> bytes:
        """All that came after the head."""
        return b"".join(message["body"] for message in self.messages[1:])


async def send(client: Client, answer: EventStream, *, keep_alive_s: float = 15.0) -> list[Fault]:
    """Send an answer; returns the faults that came instead of one."""
    refused: list[Fault] = []

    async def refuse(fault: Fault) -> None:
        refused.append(fault)

    streaming = Streaming(answer, client, "req_1", refuse=refuse, keep_alive_s=keep_alive_s)
    await streaming.run(client.when_gone)
    return refused


def render(fault: Fault) -> bytes:
    return event(f"{fault.kind}: {fault.message}".encode())


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ("plain", "plain"),
        (" two spaces before", " two spaces before"),
        ("two\nlines", "two\nlines"),
        ("\n", "\n"),
        ("ends\n", "ends\n"),
        ("", ""),
        ("carriage\r\nreturns\rare\nlines", "carriage\nreturns\nare\nlines"),
        ("other \x85 separators \u2028 \x0b stay", "other \x85 separators \u2028 \x0b stay"),
        ("id: 7", "id: 7"),
    ],
)
def test_what_a_client_reads_is_what_was_written(data: str, read: str) -> None:
    written = event(data.encode(), id_="3", name="output")
    (found,) = SSEDecoder().iter_bytes(iter([written]))
    assert (found.event, found.id, found.data) == ("output", "3", read)


async def test_events_are_sent_as_they_come_and_the_response_ends_after_them() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event(b"one", id_="1")
        yield event(b"two", id_="2")

    client = Client()
    headers = ((b"x-of", b"test"),)
    assert await send(client, EventStream(events(), render, lambda: headers)) == []
    head = dict(client.messages[0]["headers"])
    assert client.messages[0]["status"] == 200
    assert head[b"content-type"].startswith(b"text/event-stream")
    assert (head[b"cache-control"], head[b"x-of"]) == (b"no-cache", b"test")
    assert head[b"x-request-id"] == b"req_1"
    assert client.body == b"id: 1\ndata: one\n\nid: 2\ndata: two\n\n"
    assert [message["more_body"] for message in client.messages[1:]] == [True, True, False]


async def test_what_fails_before_the_first_event_is_an_answer_of_its_own() -> None:
    async def events(waiting: int = 5_000) -> AsyncGenerator[bytes, None]:
        if waiting:
            raise LaneFull("Too much waits.")
        yield b""

    client = Client()
    (fault,) = await send(client, EventStream(events(), render))
    assert (fault.status, fault.message) == (429, "Too much waits.")
    assert client.messages == []


async def test_what_fails_later_is_the_last_event() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event(b"one")
        raise LaneFull("Too much waits.")

    client = Client()
    assert await send(client, EventStream(events(), render)) == []
    assert client.body == b"data: one\n\ndata: lane_full: Too much waits.\n\n"
    assert client.messages[-1]["more_body"] is False


async def test_a_bug_is_told_by_its_id_only(caplog: pytest.LogCaptureFixture) -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event(b"one")
        raise RuntimeError("a secret")

    client = Client()
    await send(client, EventStream(events(), render))
    assert ErrorKind.INTERNAL.encode() in client.body
    assert b"secret" not in client.body
    assert "a secret" in caplog.text


async def test_silence_is_filled_with_comments_which_begin_the_response() -> None:
    more = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        await more.wait()
        yield event(b"late")

    client = Client()
    sending = asyncio.create_task(send(client, EventStream(events(), render), keep_alive_s=0.005))
    await eventually(lambda: client.body.count(b": keep-alive\n") >= 2, what="two comments")
    more.set()
    assert await sending == []
    assert client.body.endswith(b"data: late\n\n")


async def test_a_client_that_goes_away_closes_the_generator() -> None:
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield event(b"one")
            await asyncio.Event().wait()
        finally:
            closed.set()

    client = Client()
    sending = asyncio.create_task(send(client, EventStream(events(), render)))
    await eventually(lambda: bool(client.body), what="the first event")
    client.leave()
    await sending
    assert closed.is_set()


async def test_a_client_that_does_not_read_holds_up_its_generator() -> None:
    made: list[int] = []

    async def events() -> AsyncGenerator[bytes, None]:
        for number in range(1_000):
            made.append(number)
            yield event(b"x")

    client = Client()
    client.reading.clear()
    sending = asyncio.create_task(send(client, EventStream(events(), render), keep_alive_s=0.005))
    for _ in range(100):
        await asyncio.sleep(0)
    assert made == [0]
    client.reading.set()
    await sending
    assert client.body == b"data: x\n\n" * 1_000
