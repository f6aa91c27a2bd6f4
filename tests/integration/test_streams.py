"""Streams from the gateway's dispatch through a real server and a worker that generates."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from forebay.contract.errors import ForebayError, InvalidInput, NotFound
from forebay.contract.generation import Chunk, Finish, GenerationTable, Message, Sampling
from forebay.contract.prediction import Status
from forebay.contract.rows import ChatRow, Generated, Options, Row, TextRow
from forebay.gateway.streaming import Stream
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import MODEL, PARROT, generating
from tests.fixtures.waiting import eventually

PROMPT = "Water finds its level, and so does text  that is\ngiven back word by word."
GREEDY = Options(sampling=Sampling(temperature=0))


@pytest.fixture
def settings(redis_url: str, key_prefix: str) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix)


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=PARROT) as running:
        yield running


async def opened(
    gateway: Gateway, *rows: Row, options: Options = GREEDY, kept: bool = False
) -> Stream:
    dispatch = gateway.app.dispatch
    spec = dispatch.models[MODEL]
    return await dispatch.stream(
        spec, rows or (TextRow(PROMPT),), options=options, input_json=b"{}", kept=kept
    )


async def read(stream: Stream) -> list[Chunk]:
    """All that is left of it."""
    with contextlib.closing(stream):
        async with asyncio.timeout(20):
            return [chunk async for chunk in stream]


def text_of(chunks: Sequence[Chunk], row: int = 0) -> str:
    return "".join(chunk.text for chunk in chunks if chunk.row == row)


async def test_a_stream_gives_the_text_as_it_grows_and_its_outcome_in_the_end(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys):
        stream = await opened(gateway, ChatRow((Message("user", PROMPT),)))
        chunks = await read(stream)
    assert text_of(chunks) == PROMPT
    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert chunks[-1].finish is Finish.STOP
    assert {chunk.prediction for chunk in chunks} == {stream.id.text}
    assert stream.outcome is not None
    (output,) = stream.outcome.outputs
    words = len(PROMPT.split())
    assert output == Generated(PROMPT, Finish.STOP, words, words)
    assert sum(len(chunk.tokens) for chunk in chunks) == words
