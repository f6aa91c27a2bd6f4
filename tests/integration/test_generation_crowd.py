"""A decoder behind a real gateway: what a text comes to in a crowd, and what a crowd leaves."""

import asyncio
import contextlib
import gc
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest
import safetensors.numpy

from forebay.build.decoders.pipeline import SAMPLES
from forebay.build.draft import manifest_of
from forebay.contract.generation import GenerationTable
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import Options, Row, Task, TextRow, TokensRow
from forebay.gateway.generation import SamplingFields
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.onnx import GraphGenerator
from forebay.inference.generation.protocol import Wanted
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from tests.fixtures.events import events
from tests.fixtures.gateway import running_gateway
from tests.fixtures.generating import MODEL, Worker, generating
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.fixtures.writing import Text, Tiny, build, run

REQUESTS = 200
CLIENTS = 12
SLOTS = 4
TABLE = GenerationTable(slots=SLOTS)
SPEC = ModelSpec(
    Task.GENERATION,
    BackendName.ONNX,
    source="folder",
    precision=Precision.FP32,
    name=MODEL,
    generation=TABLE,
)
WORDS = ["water", "finds", "its", "level", "and", "so", "does", "the", "text"]


class Asked(msgspec.Struct, frozen=True):
    """A request of the crowd.

    Attributes:
        kind: `stream`, `whole` or `job`; a job goes by the bulk lane.
        prompt: token ids; of a job a text.
        fields: parameters, by their names at the endpoints.
        leaves_after: events or looks after which its client has had enough; None: it stays.
        twins: how many ask for the very same at once.
    """

    kind: str
    prompt: str | tuple[int, ...]
    fields: dict[str, Any]
    leaves_after: int | None = None
    twins: int = 1

    @property
    def row(self) -> Row:
        return TextRow(self.prompt) if isinstance(self.prompt, str) else TokensRow(self.prompt)


def crowd(draws: random.Random) -> list[Asked]:
    """Requests of random kinds and lengths; every third begins as some other does."""
    beginnings = [tuple(draws.randrange(3, 500) for _ in range(40)) for _ in range(3)]
    made = []
    for number in range(REQUESTS):
        kind = draws.choice(["stream", "stream", "whole", "job"])
        ids = tuple(draws.randrange(3, 500) for _ in range(draws.randint(1, 40)))
        if number % 3 == 0:
            ids = draws.choice(beginnings)[: draws.randint(1, 40)] + ids
        text = " ".join(draws.choices(WORDS, k=draws.randint(1, 12)))
        fields = {
            "max_tokens": draws.randint(1, 30),
            "temperature": draws.choice([0, 0, 0.7, 1.5]),
            "top_p": draws.choice([1.0, 0.9]),
            "frequency_penalty": draws.choice([0.0, 0.5]),
            "seed": number,
            "ignore_eos": draws.random() < 0.5,
        }
        leaves = draws.randint(0, 8) if kind != "whole" and draws.random() < 0.25 else None
        twins = 2 if kind == "whole" and draws.random() < 0.3 else 1
        made.append(Asked(kind, text if kind == "job" else ids, fields, leaves, twins))
    return made


@contextlib.asynccontextmanager
async def served(
    tiny: Tiny, redis_url: str, key_prefix: str, keys: Keys
) -> AsyncIterator[tuple[httpx.AsyncClient, GraphGenerator, Worker]]:
    """A gateway and a worker of a tiny model."""
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    model = generator(tiny, TABLE)
    async with (
        generating(redis_url, keys, model) as worker,
        running_gateway(settings, catalog=Catalog({MODEL: SPEC})) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        yield client, model, worker


def generator(tiny: Tiny, table: GenerationTable) -> GraphGenerator:
    told = manifest_of(
        SPEC, tiny.folder, source_sha256="0" * 64, samples=SAMPLES, decoder=tiny.decoder
    )
    return GraphGenerator(tiny.folder, told, table, threads=1)


def alone(quiet: GraphGenerator, asked: Asked) -> Text:
    """What a request comes to with nobody beside it."""
    sampling = msgspec.convert(asked.fields, SamplingFields).sampling()
    (prepared,) = quiet.prepare([asked.row], truncate=False, options=Options(sampling=sampling))
    assert isinstance(prepared, PreparedRow)
    return run(quiet.engine, Wanted(1, prepared, sampling))[1]


async def ask(client: httpx.AsyncClient, asked: Asked) -> tuple[str, str] | None:
    """Its text and how it ended; None if its client left."""
    if asked.kind == "job":
        return await _job(client, asked)
    body = {"model": MODEL, "prompt": asked.prompt, **asked.fields}
    if asked.kind == "whole":
        answers = [client.post("/v1/completions", json=body) for _ in range(asked.twins)]
        told = {_told(await answer) for answer in asyncio.as_completed(answers)}
        (one,) = told
        return one
    text, finish, left = "", "", asked.leaves_after
    async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        assert answer.status_code == 200, await answer.aread()
        if left == 0:
            return None
        async for event in events(answer):
            if event.data == "[DONE]":
                return text, finish
            (choice,) = event.json()["choices"]
            text += choice["text"]
            finish = choice["finish_reason"] or finish
            if left is not None and (left := left - 1) == 0:
                return None
    raise AssertionError("a stream ended in the midst of its events")


async def _job(client: httpx.AsyncClient, asked: Asked) -> tuple[str, str] | None:
    body = {"version": MODEL, "input": {"prompt": asked.prompt, **asked.fields}}
    made = (await client.post("/v1/predictions", json=body)).json()
    looks = 0
    while made["status"] in {"starting", "processing"}:
        if asked.leaves_after is not None and looks == asked.leaves_after:
            made = (await client.post(f"/v1/predictions/{made['id']}/cancel")).json()
            assert made["status"] in {"canceled", "succeeded"}, made
            return None
        made = (await client.get(f"/v1/predictions/{made['id']}")).json()
        looks += 1
    assert made["status"] == "succeeded", made
    return made["output"], ""


def _told(answer: httpx.Response) -> tuple[str, str]:
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    return choice["text"], choice["finish_reason"]


async def test_200_requests_that_join_leave_and_are_canceled_come_to_what_they_do_alone(
    tiny_llama: Tiny, redis_url: str, key_prefix: str, keys: Keys
) -> None:
    requests = crowd(random.Random(11))
    got: dict[int, tuple[str, str] | None] = {}
    async with served(tiny_llama, redis_url, key_prefix, keys) as (client, model, worker):
        numbered = list(enumerate(requests))

        async def one_client(left: Iterator[tuple[int, Asked]]) -> None:
            for number, asked in left:
                got[number] = await ask(client, asked)

        async def at_rest_after(some: Sequence[tuple[int, Asked]]) -> int:
            """The process' memory once all of some requests are answered."""
            left = iter(some)
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(one_client(left))
            await eventually(lambda: not worker.stages.held, what="all leases are given back")
            await eventually(lambda: not model.engine.busy, what="the engine rests")
            return _resident()

        quarter = REQUESTS // 4
        resident = [
            await at_rest_after(numbered[first : first + quarter])
            for first in range(0, REQUESTS, quarter)
        ]
        assert model.engine.free == SLOTS, "slots are lost"
        redis = connect(redis_url, timeout_s=TIMEOUT_S)

        async def nothing_waits() -> bool:
            told = await depth(redis, keys.of(MODEL), now_ms=0)
            return (told.realtime, told.bulk) == (0, 0)

        await eventually(nothing_waits, what="what clients have left is off the lanes")
        await redis.aclose()
    # The allocator may take more in one of them; what every quarter takes anew is lost.
    grown = [after - before for before, after in itertools.pairwise(resident)]
    assert min(grown) < 6_000_000, f"{grown} bytes more after each {REQUESTS // 4} requests"

    quiet = generator(tiny_llama, GenerationTable(slots=1))
    stayed = {number: told for number, told in got.items() if told is not None}
    assert len(got) == REQUESTS
    assert len(stayed) > REQUESTS * 0.7
    for number, (text, finish) in stayed.items():
        lonely = alone(quiet, requests[number])
        assert text == lonely.text, number
        assert finish in ("", lonely.finish), number


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


POISON = 77
"""A token whose embedding is no number."""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    def spoil(source: Path) -> None:
        path = source / "model.safetensors"
        weights = safetensors.numpy.load_file(path)
        weights["model.embed_tokens.weight"][POISON] = np.nan
        safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})

    return build(
        "llama3", tmp_path_factory.mktemp("poisoned"), precision=Precision.FP32, spoil=spoil
    )


async def test_a_text_whose_logits_are_no_numbers_fails_and_its_neighbours_do_not_notice(
    poisoned: Tiny, redis_url: str, key_prefix: str, keys: Keys
) -> None:
    draws = random.Random(12)
    sound = [
        Asked(
            kind,
            tuple(draws.randrange(100, 500) for _ in range(9)),
            # or it would fail, too, where it draws that token
            {"max_tokens": 24, "seed": number, "logit_bias": {POISON: -100}},
        )
        for number, kind in enumerate(["stream", "whole"] * 4)
    ]
    spoiled = {"model": MODEL, "prompt": [5, POISON, 6], "max_tokens": 5}
    async with served(poisoned, redis_url, key_prefix, keys) as (client, model, worker):
        asked = [asyncio.create_task(ask(client, one)) for one in sound]
        failures = [
            asyncio.create_task(client.post("/v1/completions", json={**spoiled, "stream": stream}))
            for stream in (False, True, False)
        ]
        answers = [await failure for failure in failures]
        got = [await task for task in asked]
        assert [answer.status_code for answer in answers] == [500, 500, 500]
        for answer in answers:
            assert "logits for this text are no numbers" in answer.json()["error"]["message"]
        await eventually(lambda: not worker.stages.held, what="all leases are given back")
        await eventually(lambda: model.engine.free == SLOTS, what="all slots are free")
    quiet = generator(poisoned, GenerationTable(slots=1))
    for one, told in zip(sound, got, strict=True):
        lonely = alone(quiet, one)
        assert told == (lonely.text, lonely.finish)
