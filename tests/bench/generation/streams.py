"""Reads Forebay's streams as clients do, and tells when what came.

Raw Server-Sent Events over asyncio's streams, which cost the machine as little as a client can: it
is the machine that is measured. The first token of a lone request is asked for with OpenAI's own
client, as people ask.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec
import openai

from tests.bench.generation.subject import questions
from tests.bench.wrk import LoadFailedError

TIMEOUT_S = 120.0

IGNORE_EOS: Mapping[str, object] = {"ignore_eos": True}
"""What makes Forebay write on whatever the model would say."""

LAST_LINES = (b"data: [DONE]\n", b"0\r\n")
"""The event that says so, or the end of a chunked body: not everybody sends the event."""


class Delta(msgspec.Struct):
    """What is read of a choice's delta."""

    content: str | None = None


class Choice(msgspec.Struct):
    """What is read of a choice: `delta` of chats, `text` of completions."""

    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def told(self) -> bool:
        """Whether there is any of the text in it."""
        return bool(self.text or (self.delta is not None and self.delta.content))


class Event(msgspec.Struct):
    """What is read of an event."""

    choices: tuple[Choice, ...] = ()


class Read(msgspec.Struct, frozen=True):
    """A stream that was read to its end; times are of `time.perf_counter`.

    Attributes:
        sent: when it was asked for.
        came: when each event came that had some of the text, or was its end.
        tokens: it had in all.
    """

    sent: float
    came: tuple[float, ...]
    tokens: int

    @property
    def first_s(self) -> float:
        """From the request to the first of its text."""
        return self.came[0] - self.sent

    @property
    def gaps_s(self) -> list[float]:
        """Between one event and the next."""
        return [after - before for before, after in zip(self.came, self.came[1:], strict=False)]

    def between(self, began: float, ended: float) -> float:
        """Tokens that came after one moment and up to another: an event is a token, but for some.

        Few events have two, as a half character is held back: each counts for the average.
        """
        inside = sum(began < at <= ended for at in self.came)
        return inside * self.tokens / len(self.came)


class StreamFailedError(LoadFailedError):
    """A stream was refused, or broke off; the message is what came instead."""


async def read(
    port: int,
    path: str,
    body: Mapping[str, object],
    *,
    tokens: int,
    endless: Mapping[str, object] = IGNORE_EOS,
    key: str = "",
) -> Read:
    """Ask for a stream and read it to its end.

    Args:
        port: of the gateway on this machine.
        path: of the endpoint.
        body: of the request, but for what makes a stream of so many tokens of it.
        tokens: how long the text is to be, whatever the model would say.
        endless: the fields that make it so.
        key: API key to send, if one is asked for.

    Raises:
        StreamFailedError: it came to nothing.
        OSError: nobody listens.
    """
    asked = {**body, **endless, "stream": True, "max_tokens": tokens, "temperature": 0}
    content = msgspec.json.encode(asked)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent = time.perf_counter()
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"%scontent-length: %d\r\n\r\n%s"
            % (
                path.encode(),
                b"authorization: Bearer %s\r\n" % key.encode() if key else b"",
                len(content),
                content,
            )
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise StreamFailedError(f"{head.decode()}{(await reader.read(2_000)).decode()}")
        came: list[float] = []
        decoder = msgspec.json.Decoder(Event)
        while (line := await reader.readline()) not in LAST_LINES:
            if not line:
                raise StreamFailedError(f"{path} ended in the midst of its events.")
            if line.startswith(b'data: {"error"'):
                raise StreamFailedError(line.decode())
            if line.startswith(b"data: "):
                at = time.perf_counter()
                choices = decoder.decode(line[6:]).choices
                if any(choice.told or choice.finish_reason for choice in choices):
                    came.append(at)
        return Read(sent, tuple(came), tokens)
    finally:
        writer.close()


async def chats(
    port: int,
    model: str,
    *,
    streams: int,
    tokens: int,
    endless: Mapping[str, object] = IGNORE_EOS,
    key: str = "",
) -> list[Read]:
    """The first questions as chats, all at once, with an API key if one is given.

    Raises:
        StreamFailedError: one came to nothing.
    """
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        reading = [
            group.create_task(
                read(
                    port,
                    "/v1/chat/completions",
                    {"model": model, "messages": [{"role": "user", "content": question}]},
                    tokens=tokens,
                    endless=endless,
                    key=key,
                )
            )
            for question in questions(streams)
        ]
    return [task.result() for task in reading]


async def chats_beside(
    port: int, model: str, *, streams: int, tokens: int, prompt: Sequence[int]
) -> tuple[list[Read], Read]:
    """The same, and once all of them write a long prompt, of which one token is written.

    Raises:
        StreamFailedError: one came to nothing.
    """

    async def late() -> Read:
        # As long as a short prompt takes to be read and its text to be under way, many times over.
        await asyncio.sleep(1)
        body: dict[str, object] = {"model": model, "prompt": list(prompt)}
        return await read(port, "/v1/completions", body, tokens=1)

    async with asyncio.TaskGroup() as group:
        long = group.create_task(late())
        reads = await chats(port, model, streams=streams, tokens=tokens)
    return reads, long.result()


def first_token_s(client: openai.OpenAI, model: str, question: str) -> float:
    """From a lone chat's request to its first text, by OpenAI's client."""
    began = time.perf_counter()
    first = 0.0
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        temperature=0,
        max_tokens=4,
    )
    for chunk in stream:
        if not first and any(choice.delta.content for choice in chunk.choices):
            first = time.perf_counter() - began
    return first


def steady(reads: Sequence[Read]) -> float:
    """Tokens a second of all streams while all of them write: none has yet to begin, or has ended.

    That is what the bare loop does; the prompts before it are told by `Read.first_s`.
    """
    began, ended = max(read.came[0] for read in reads), min(read.came[-1] for read in reads)
    return sum(read.between(began, ended) for read in reads) / (ended - began)
