"""Streams from the gateway's dispatch through a real server and a worker that generates."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from forebay.contract.errors import ForebayError, InvalidInput, NotFound
from forebay.contract.generation import Chunk, Finish, GenerationTable, Message, Sampling
from forebay.contract.rows import ChatRow, Generated, Options, Row, TextRow
from forebay.gateway.streaming import MAX_BUFFER, Stream
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import MODEL, PARROT, generating
from tests.fixtures.servers import TIMEOUT_S, Server
from tests.fixtures.waiting import PATIENCE_S, eventually

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
    spec = dispatch.registry.models[MODEL]
    return await dispatch.stream(
        spec, rows or (TextRow(PROMPT),), options=options, input_json=b"{}", kept=kept
    )


async def read(stream: Stream) -> list[Chunk]:
    """All that is left of it."""
    with contextlib.closing(stream):
        async with asyncio.timeout(PATIENCE_S):
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


async def test_rows_of_one_stream_grow_side_by_side(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(tokens_per_s=50))):
        # So many that a stall of the machine doesn't have one of them come whole.
        one, other = ("one two three " * 20).strip(), ("four five " * 30).strip()
        stream = await opened(gateway, TextRow(one), TextRow(other))
        chunks = await read(stream)
    assert (text_of(chunks, 0), text_of(chunks, 1)) == (one, other)
    rows = [chunk.row for chunk in chunks]
    assert rows.index(1) < len(rows) - 1 - rows[::-1].index(0)
    assert stream.outcome is not None
    assert len(stream.outcome.outputs) == 2


async def test_what_is_refused_is_an_error_before_the_first_chunk(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    table = GenerationTable(context=4)
    async with generating(redis_url, keys, EchoGenerator(table)):
        stream = await opened(gateway)
        with pytest.raises(InvalidInput, match="The prompt has 15 tokens"):
            await read(stream)
    with pytest.raises(InvalidInput, match="A stream takes 256 rows"):
        await opened(gateway, *[TextRow("x")] * 257)


async def test_a_stream_resumed_at_random_places_on_any_gateway_gives_the_missing_rest(
    gateway: Gateway, settings: Settings, redis_url: str, keys: Keys
) -> None:
    prompt = " ".join(f"word{number}" for number in range(40))
    chance = random.Random(7)
    model = EchoGenerator(GenerationTable(slots=8, tokens_per_s=400))
    async with (
        running_gateway(settings, catalog=PARROT) as other,
        generating(redis_url, keys, model),
    ):
        gateways = [gateway, other]

        async def cut_and_resumed() -> str:
            stream = await opened(chance.choice(gateways), TextRow(prompt), kept=True)
            had: list[Chunk] = []
            while True:
                left = chance.randrange(1, 20)
                with contextlib.closing(stream):
                    async for chunk in stream:
                        had.append(chunk)
                        left -= 1
                        if not left:
                            break
                    else:
                        return text_of(had)
                at = had[-1].sequence
                dispatch = chance.choice(gateways).app.dispatch
                stream = await dispatch.resume(stream.id.text, after=at)

        async with asyncio.timeout(PATIENCE_S):
            texts = await asyncio.gather(*(cut_and_resumed() for _ in range(40)))
    assert texts == [prompt] * 40


async def test_a_stream_that_has_ended_can_be_read_again(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys):
        stream = await opened(gateway, kept=True)
        first = await read(stream)
    again = await gateway.app.dispatch.resume(stream.id.text)
    assert await read(again) == first
    assert again.outcome == stream.outcome
    rest = await gateway.app.dispatch.resume(stream.id.text, after=5)
    assert await read(rest) == first[5:]
    with pytest.raises(InvalidInput):
        await gateway.app.dispatch.resume(stream.id.text, after=-1)
    with pytest.raises(NotFound):
        await gateway.app.dispatch.resume(f"{MODEL}-0-{'0' * 20}")


async def test_a_reader_who_is_slow_gets_everything_and_keeps_nobody_waiting(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    prompt = " ".join(map(str, range(1_000)))
    model = EchoGenerator(GenerationTable(tokens_per_s=2_000))
    async with generating(redis_url, keys, model):
        slow = await opened(gateway, TextRow(prompt))
        first = await anext(slow)
        quick = await read(await opened(gateway))
        assert text_of(quick) == PROMPT
        waiter = slow._waiter
        assert waiter is not None
        await asyncio.wait_for(asyncio.wait([waiter.future]), PATIENCE_S)
        assert len(slow._buffer) <= MAX_BUFFER
        rest = await read(slow)
    assert len(rest) > MAX_BUFFER
    assert text_of([first, *rest]) == prompt


async def test_messages_lost_on_the_way_to_the_gateway_are_read_again(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    prompt = " ".join(map(str, range(100)))
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(tokens_per_s=100))):
        stream = await opened(gateway, TextRow(prompt))
        redis = connect(redis_url, timeout_s=TIMEOUT_S)
        commands: Commands = redis
        chunks: list[Chunk] = []
        with contextlib.closing(stream):
            async with asyncio.timeout(PATIENCE_S):
                async for chunk in stream:
                    chunks.append(chunk)
                    if len(chunks) % 20 == 0:
                        await commands.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await redis.aclose()
    assert text_of(chunks) == prompt
    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))


async def test_a_pause_of_redis_makes_chunks_longer_and_loses_none(
    private_server: Server, key_prefix: str, keys: Keys
) -> None:
    url = private_server.url
    settings = Settings(redis_url=url, key_prefix=key_prefix, redis_timeout_s=10)
    prompt = " ".join(map(str, range(100)))
    model = EchoGenerator(GenerationTable(tokens_per_s=200))
    async with (
        running_gateway(settings, catalog=PARROT) as gateway,
        generating(url, keys, model),
    ):
        stream = await opened(gateway, TextRow(prompt))
        had = [await anext(stream) for _ in range(5)]
        private_server.pause()
        await eventually(lambda: not model.engine.busy, what="the engine has gone on to the end")
        private_server.resume()
        chunks = [*had, *await read(stream)]
    assert text_of(chunks) == prompt
    assert len(chunks) < 100


async def test_closing_a_stream_that_nobody_can_come_back_for_frees_its_slot(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    model = EchoGenerator(GenerationTable(slots=1, tokens_per_s=50))
    endless = Options(sampling=Sampling(temperature=0, max_tokens=2_000, ignore_end=True))
    async with generating(redis_url, keys, model) as worker:
        stream = await opened(gateway, options=endless)
        await anext(stream)
        assert model.engine.busy
        stream.close()
        await eventually(lambda: not worker.stages.held, what="the lease is gone")
        await eventually(lambda: not model.engine.busy, what="the slot is free")
        assert text_of(await read(await opened(gateway, TextRow("next")))) == "next"
        with pytest.raises(ForebayError, match="canceled"):
            await read(await gateway.app.dispatch.resume(stream.id.text))


async def test_closing_a_stream_that_is_kept_leaves_it_running(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(tokens_per_s=100))):
        stream = await opened(gateway, kept=True)
        first = await anext(stream)
        stream.close()
        rest = await gateway.app.dispatch.resume(stream.id.text, after=first.sequence)
        assert text_of([first, *await read(rest)]) == PROMPT


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0), Sampling(seed=3), Sampling()],
    ids=["greedy", "seeded", "sampled"],
)
async def test_another_worker_goes_on_where_one_was_lost(
    gateway: Gateway, redis_url: str, keys: Keys, sampling: Sampling
) -> None:
    options = Options(sampling=sampling)
    slow = EchoGenerator(GenerationTable(tokens_per_s=100))
    async with generating(redis_url, keys, slow, name="first") as first:
        stream = await opened(gateway, TextRow(PROMPT), TextRow("one two"), options=options)
        had = [await anext(stream) for _ in range(5)]
        await first.die()
        await first.consumer.release(first.stages.held)  # else a lease has to lapse
        async with generating(redis_url, keys, name="second"):
            chunks = [*had, *await read(stream)]
    assert (text_of(chunks, 0), text_of(chunks, 1)) == (PROMPT, "one two")
    assert [chunk.sequence for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert stream.outcome is not None
    assert [output.text for output in stream.outcome.outputs if isinstance(output, Generated)] == [
        PROMPT,
        "one two",
    ]


async def test_texts_that_were_lost_with_a_worker_grow_side_by_side_again(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    def slow() -> EchoGenerator:
        return EchoGenerator(GenerationTable(tokens_per_s=5))

    second = slow()
    async with generating(redis_url, keys, slow(), name="first") as first:
        streams = [await opened(gateway) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        await first.die()
        await first.consumer.release(first.stages.held)
        async with generating(redis_url, keys, second, name="second"):
            await eventually(lambda: len(second.engine) == 3, what="all three grow")
            for stream in streams:
                stream.close()


class Otherwise(EchoGenerator):
    """Another artifact."""

    version = "otherwise"


async def test_another_artifact_does_not_go_on_with_a_text(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    slow = EchoGenerator(GenerationTable(tokens_per_s=4))
    async with generating(redis_url, keys, slow, name="first") as first:
        stream = await opened(gateway)
        await anext(stream)
        await first.die()
        await first.consumer.release(first.stages.held)
        async with generating(redis_url, keys, Otherwise(GenerationTable()), name="second"):
            with pytest.raises(ForebayError, match="no other can go on with it"):
                await read(stream)


async def test_a_draining_worker_finishes_its_streams(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(tokens_per_s=100))) as one:
        stream = await opened(gateway)
        await anext(stream)
        one.stages.drain()
        await read(stream)
    assert stream.outcome is not None


async def test_a_stream_takes_no_part_in_joining_and_sampled_requests_neither(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    dispatch = gateway.app.dispatch
    spec = dispatch.registry.models[MODEL]
    rows = (TextRow(PROMPT),)

    async def ran(sampling: Sampling) -> None:
        await dispatch.run(spec, rows, options=Options(sampling=sampling))

    asked = [asyncio.create_task(ran(sampling)) for sampling in SAMPLINGS for _ in range(2)]
    streams = [await opened(gateway) for _ in range(2)]
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    key = keys.of(MODEL)

    async def all_there() -> bool:
        told = await depth(redis, key, now_ms=0)
        return told.realtime == len(SAMPLINGS) + 1 + len(streams)

    await eventually(all_there, what="all but the one that joins are on the lane")
    async with generating(redis_url, keys):
        await asyncio.gather(*asked, *map(read, streams))
    assert await redis.hget(key.counters, "joined") == b"1"
    await redis.aclose()


SAMPLINGS = (Sampling(), Sampling(seed=1))
