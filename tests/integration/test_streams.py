"""Streams from the gateway's dispatch through a real server and a worker that generates."""

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from forebay.contract.errors import (
    DeadlineExceeded,
    ForebayError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from forebay.contract.generation import Chunk, Finish, GenerationTable, Message, Sampling
from forebay.contract.model import LaneLimits
from forebay.contract.prediction import PredictionId
from forebay.contract.rows import ChatRow, Generated, Options, Row, TextRow
from forebay.gateway.streaming import MAX_BUFFER, Stream
from forebay.inference.generation.echo import EchoGenerator
from forebay.inference.generation.thread import NAME
from forebay.lanes import replies
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.lanes.readers import BITE, Readers
from forebay.lanes.replies import OUTAGE_GRACE_S
from forebay.lanes.sweeps import expire_overdue
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands, Link, connect
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
    rest = await gateway.app.dispatch.resume(stream.id.text, after=first[0].sequence)
    assert await read(rest) == first[1:]
    with pytest.raises(InvalidInput, match="No event that came"):
        await gateway.app.dispatch.resume(stream.id.text, after=first[-1].sequence + 1)
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


async def test_a_text_that_has_begun_survives_an_absence_of_redis_and_others_are_told(
    private_server: Server, key_prefix: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "BEGUN_GRACE_S", 60.0)
    url = private_server.url
    settings = Settings(redis_url=url, key_prefix=key_prefix, redis_timeout_s=2)
    model = EchoGenerator(GenerationTable(tokens_per_s=20))
    async with (
        running_gateway(settings, catalog=PARROT) as gateway,
        generating(url, keys, model),
    ):
        stream = await opened(gateway)
        first = await anext(stream)
        reading = asyncio.create_task(read(stream))
        private_server.pause()
        dispatch = gateway.app.dispatch
        waits = asyncio.create_task(
            dispatch.run(dispatch.registry.models[MODEL], [TextRow("x")], options=GREEDY)
        )
        with pytest.raises(Unavailable):
            await waits
        # What is missing can't be read now, and is no reason to give up.
        stream.missed()
        await eventually(lambda: dispatch.kept._reads._link.down_s > OUTAGE_GRACE_S)
        private_server.resume()
        chunks = [first, *await reading]
    assert text_of(chunks) == PROMPT
    assert stream.outcome is not None


async def test_a_text_is_given_up_where_redis_stays_away(
    private_server: Server,
    key_prefix: str,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "BEGUN_GRACE_S", OUTAGE_GRACE_S)
    url = private_server.url
    settings = Settings(redis_url=url, key_prefix=key_prefix, redis_timeout_s=2)
    model = EchoGenerator(GenerationTable(tokens_per_s=20))
    async with (
        running_gateway(settings, catalog=PARROT) as gateway,
        generating(url, keys, model),
    ):
        stream = await opened(gateway)
        await anext(stream)
        private_server.pause()
        with pytest.raises(Unavailable):
            await read(stream)
        private_server.resume()


async def test_a_stream_that_ends_with_its_reader_is_canceled_where_nobody_says_it_is_there(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    model = EchoGenerator(GenerationTable(slots=2, tokens_per_s=50))
    endless = Options(sampling=Sampling(temperature=0, max_tokens=2_000, ignore_end=True))
    readers = gateway.app.dispatch._streams._readers
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    commands: Commands = redis
    async with generating(redis_url, keys, model):
        left, stays = await opened(gateway, options=endless), await opened(gateway, options=endless)
        kept = await opened(gateway, kept=True)
        assert len(readers) == 2
        for stream in (left, stays):
            await anext(stream)
        record = keys.of_prediction(left.id).record(left.id.text)
        reading = asyncio.create_task(read(left))

        async def forgotten() -> bool:
            # Again and again: its gateway may just say that it is there.
            await commands.execute_command("HSET", record, "rd", 1)
            return reading.done()

        await eventually(forgotten, what="it ends")
        with pytest.raises(ForebayError, match="Nobody reads this stream any more"):
            await reading
        await readers.renew()
        assert text_of(await read(kept)) == PROMPT
        await anext(stays)
        stays.close()
        assert len(readers) == 0
    counted = await commands.execute_command("HGET", keys.of(MODEL).counters, "canceled")
    await redis.aclose()
    assert int(counted) == 2


async def test_the_readers_of_many_streams_are_said_to_be_there(redis_url: str, keys: Keys) -> None:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    commands: Commands = redis
    readers = Readers(redis, keys, Link(redis, Clock()), lease_s=600)
    ids = [PredictionId.new(model) for model in ("one", "another") for _ in range(BITE + 1)]
    for id_ in ids:
        await commands.execute_command("HSET", keys.of_prediction(id_).record(id_.text), "rd", 1)
        readers.come(id_)
    readers.go(ids[0])
    await readers.renew()
    until = [
        int(await commands.execute_command("HGET", keys.of_prediction(i).record(i.text), "rd"))
        for i in ids
    ]
    await redis.aclose()
    assert until[0] == 1
    assert min(until[1:]) > 600_000


async def test_a_stream_ends_when_its_client_has_said_that_it_shall(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    endless = Options(sampling=Sampling(temperature=0, max_tokens=2_000, ignore_end=True))
    dispatch = gateway.app.dispatch
    model = EchoGenerator(GenerationTable(tokens_per_s=50))
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    async with generating(redis_url, keys, model):
        made = await dispatch.create(
            dispatch.registry.models[MODEL],
            [TextRow(PROMPT)],
            input_json=b"{}",
            options=endless,
            cancel_after_s=4,
            stream=True,
        )
        stream = await dispatch.resume(made.id)
        await anext(stream)

        async def swept() -> bool:
            return await expire_overdue(redis, keys.of(MODEL)) == 1

        await eventually(swept, what="its time is over")
        with pytest.raises(DeadlineExceeded):
            await read(stream)
        await eventually(lambda: not model.engine.busy, what="the slot is free")
    await redis.aclose()


async def test_a_stream_that_was_not_begun_in_time_says_that_there_is_no_worker(
    settings: Settings, redis_url: str, keys: Keys
) -> None:
    hasty = msgspec.structs.replace(PARROT.models[MODEL], realtime=LaneLimits(deadline_s=0.3))
    why = f"There is no worker for '{MODEL}'."
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    async with running_gateway(settings, catalog=Catalog({MODEL: hasty})) as gateway:
        with pytest.raises(DeadlineExceeded, match=f"not begun within 0.3 s. {why}"):
            await read(await opened(gateway))
    async with running_gateway(settings, catalog=PARROT) as gateway:
        stream = await opened(gateway)
        key = keys.of(MODEL)

        async def overdue() -> bool:
            # Its own wait has not ended yet.
            found = await redis.zadd(key.deadlines, {stream.id.text: 1}, xx=True, ch=True)
            return bool(found)

        await eventually(overdue, what="it is on its lane")
        assert await expire_overdue(redis, key) >= 1
        with pytest.raises(DeadlineExceeded, match=f"before its deadline.*{why}"):
            await read(stream)
    await redis.aclose()


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


async def test_a_worker_that_ends_in_the_midst_of_a_step_waits_for_it(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    model = EchoGenerator(GenerationTable(tokens_per_s=2))
    async with generating(redis_url, keys, model) as worker:
        stream = await opened(gateway)
        await anext(stream)
        await worker.die()
        assert NAME not in [thread.name for thread in threading.enumerate()]
        stream.close()


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
