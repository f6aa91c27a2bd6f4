"""The semantic cache at a gateway: which prompts answer for others, and which never do."""

import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import openai
import pytest

from forebay.contract.caching import CacheOptions, Scope, SemanticOptions
from forebay.contract.errors import ConfigurationError
from forebay.contract.generation import Finish
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import ChatRow, Embedding, Generated, Options, Output, Row, Task, TextRow
from forebay.gateway.versions import Serving
from forebay.lanes.cache import Cache
from forebay.lanes.consumer import Delivery, Settlement
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog, read
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import VERSION, Answer, answer_with, answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

MEANINGS = {
    "What is the capital of France?": (1.0, 0.0, 0.0),
    "Which city is the capital of France?": (0.9951, 0.0989, 0.0),
    "The capital of France is which city?": (0.9951, 0.0989, 0.0),
    "What is the capital of Spain?": (0.9, 0.436, 0.0),
    "Tell me a joke": (0.0, 0.0, 1.0),
    "Nothing at all": (0.0, 0.0, 0.0),
    "How far is 10 km?": (0.0, 1.0, 0.0),
    "How far is 16 km?": (0.0, 1.0, 0.0),
    "How far are 16 km?": (0.0, 1.0, 0.0),
    "How far is -16 km?": (0.0, 1.0, 0.0),
}
"""Vectors that this suite's embedder gives: cosines with the first are 1, 0.995 twice, 0.9, 0,
none."""

CAPITAL, CITY, SAME_CITY, SPAIN, JOKE, NOTHING, TEN, SIXTEEN, SAME, MINUS = MEANINGS
SEMANTIC = SemanticOptions(model="meanings", threshold=0.97)
CACHE = CacheOptions(enabled=True, semantic=SEMANTIC)
WRITER = ModelSpec(
    Task.GENERATION, BackendName.ONNX, source="package:none", name="writer", cache=CACHE
)


def chat(text: str) -> dict[str, Any]:
    return {
        "model": "writer",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
    }


def writer(name: str, **cache: Any) -> ModelSpec:
    return msgspec.structs.replace(WRITER, name=name, cache=msgspec.structs.replace(CACHE, **cache))


CATALOG = Catalog(
    {
        "writer": WRITER,
        "exact": writer("exact", semantic=None),
        "private": writer("private", scope=Scope.KEY),
        "brief": writer("brief", semantic=msgspec.structs.replace(SEMANTIC, entries=1)),
        "hasty": writer("hasty", semantic=msgspec.structs.replace(SEMANTIC, timeout_s=0.05)),
        "meanings": ModelSpec(
            Task.EMBEDDING, BackendName.ONNX, source="package:none", name="meanings"
        ),
    }
)


class Versions:
    """The same serves all, as this suite's workers tell it."""

    def serving(self, spec: ModelSpec) -> Serving | None:
        return Serving(VERSION + "0" * 52)


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str, versions: Versions) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with running_gateway(settings, catalog=CATALOG, versions=versions) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


def embed(row: Row, options: Options) -> Output:
    assert isinstance(row, TextRow)
    return Embedding(struct.pack("<3f", *MEANINGS[row.text]), 4)


def embedded_by(version: str) -> Answer:
    """Embed with an artifact, by its short digest."""
    embedded = answer_with(embed)

    def answer(delivery: Delivery) -> Settlement:
        whole = embedded(delivery)
        reply = msgspec.structs.replace(whole.reply, version=version)
        return msgspec.structs.replace(whole, reply=reply)

    return answer


def write(row: Row, options: Options) -> Output:
    text = row.messages[-1].content if isinstance(row, ChatRow) else getattr(row, "text", "")
    return Generated(f"What I know of: {text}", Finish.STOP, 9, 5)


@contextlib.asynccontextmanager
async def working(url: str, keys: Keys, model: str) -> AsyncIterator[list[Delivery]]:
    """Workers of a model that writes and of the one that embeds; yields what the first ran."""
    async with (
        answering(url, keys, "meanings", answer=answer_with(embed)),
        answering(url, keys, model, answer=answer_with(write)) as written,
    ):
        yield written


async def ask(
    client: httpx.AsyncClient, text: str, *, model: str = "writer", **body: Any
) -> tuple[str, str]:
    """What is answered to a chat, and what the cache says of it."""
    headers = body.pop("headers", {})
    before = body.pop("before", [])
    messages = [*before, {"role": "user", "content": text}]
    told = {"model": model, "messages": messages, "temperature": 0} | body
    answer = await client.post("/v1/chat/completions", json=told, headers=headers)
    assert answer.status_code == 200, answer.text
    content = answer.json()["choices"][0]["message"]["content"]
    return content.removeprefix("What I know of: "), answer.headers.get("cache-status", "")


async def test_a_prompt_is_answered_with_the_text_of_one_that_means_the_same(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with working(redis_url, keys, "writer") as ran:
        assert await ask(client, CAPITAL) == (CAPITAL, "forebay; fwd=miss; stored")
        text, told = await ask(client, CITY)
        assert text == CAPITAL
        assert told.startswith("forebay; hit; ttl=")
        assert told.endswith('; detail="semantic 0.995"')
        # The very same is still found as before, and what is less alike is run.
        text, told = await ask(client, CAPITAL)
        assert (text, "detail" in told) == (CAPITAL, False)
        assert await ask(client, SPAIN) == (SPAIN, "forebay; fwd=miss; stored")
        assert await ask(client, JOKE) == (JOKE, "forebay; fwd=miss; stored")
    assert len(ran) == 3
    redis = connect(redis_url, timeout_s=TIMEOUT_S)

    async def counted() -> bool:
        standing = await Cache(redis, keys).standing("writer")
        return (standing.near, standing.alike, standing.missed) == (1, 1, 4)

    await eventually(counted, what="look-ups are counted")
    await redis.aclose()


@pytest.mark.parametrize(
    "other",
    [
        {"max_tokens": 7},
        {"stop": ["."]},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"before": [{"role": "system", "content": "Be brief."}]},
        {"before": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi."}]},
        {"tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}]},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_all_but_the_last_message_must_be_the_same(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, other: dict[str, Any]
) -> None:
    async with working(redis_url, keys, "writer") as ran:
        await ask(client, CAPITAL)
        assert (await ask(client, CITY, **other))[0] == CITY
        # And once it is, it is.
        text, told = await ask(client, CAPITAL, **other)
        assert (text, "semantic" in told) == (CITY, True)
    assert len(ran) == 2


async def test_prompts_with_other_numbers_are_not_alike(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with working(redis_url, keys, "writer") as ran:
        assert (await ask(client, TEN))[0] == TEN
        assert (await ask(client, SIXTEEN))[0] == SIXTEEN
        assert (await ask(client, SAME))[0] == SIXTEEN
        assert (await ask(client, MINUS))[0] == MINUS
    assert len(ran) == 3


async def test_texts_that_are_drawn_are_neither_kept_nor_found(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    bypass = 'forebay; fwd=bypass; detail="the text is drawn anew"'
    async with working(redis_url, keys, "writer") as ran:
        assert await ask(client, CAPITAL, temperature=1) == (CAPITAL, bypass)
        assert await ask(client, CAPITAL, temperature=1) == (CAPITAL, bypass)
        assert await ask(client, CAPITAL, temperature=1, seed=5) == (
            CAPITAL,
            "forebay; fwd=miss; stored",
        )
        _, told = await ask(client, CAPITAL, temperature=1, seed=5)
        assert told.startswith("forebay; hit")
        # Each of several draws from a sequence of its own.
        assert (await ask(client, CAPITAL, temperature=1, seed=5, n=2))[1] == bypass
    assert len(ran) == 4


async def test_a_cache_of_texts_needs_no_meanings(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "exact", answer=answer_with(write)) as ran:
        assert (await ask(client, CAPITAL, model="exact"))[1] == "forebay; fwd=miss; stored"
        assert (await ask(client, CAPITAL, model="exact"))[1].startswith("forebay; hit; ttl=")
        assert (await ask(client, CITY, model="exact"))[0] == CITY
    assert len(ran) == 2


async def test_what_a_client_says_of_the_cache_goes_for_what_is_alike(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with working(redis_url, keys, "writer") as ran:
        await ask(client, CAPITAL, headers={"cache-control": "no-store"})
        assert (await ask(client, CITY))[0] == CITY
        assert (await ask(client, CAPITAL, headers={"cache-control": "no-cache"}))[0] == CAPITAL
        assert len(ran) == 3
        only = {"cache-control": "only-if-cached"}
        body = {
            "model": "writer",
            "messages": [{"role": "user", "content": JOKE}],
            "temperature": 0,
        }
        refused = await client.post("/v1/chat/completions", json=body, headers=only)
        assert refused.status_code == 504
        assert refused.headers["cache-status"] == 'forebay; detail="only-if-cached"'
        await ask(client, JOKE)
        assert (await ask(client, JOKE, headers=only))[0] == JOKE
        old = {"cache-control": "max-age=0"}
        assert (await ask(client, JOKE, headers=old))[1] == "forebay; fwd=stale; stored"


async def test_who_does_not_wait_is_not_held_up_for_a_meaning(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with working(redis_url, keys, "writer") as ran:
        await ask(client, CAPITAL)
        body = {"version": "writer", "input": {"prompt": CITY, "temperature": 0}}
        made = (await client.post("/v1/predictions", json=body)).json()
        assert made["status"] == "starting"
        only = {"cache-control": "only-if-cached"}
        other = {"version": "writer", "input": {"prompt": JOKE, "temperature": 0}}
        refused = await client.post("/v1/predictions", json=other, headers=only)
        assert refused.status_code == 504

        async def ended() -> bool:
            told = (await client.get(f"/v1/predictions/{made['id']}")).json()
            return bool(told["status"] == "succeeded")

        await eventually(ended, what="it was run")
    assert len(ran) == 2


async def test_callers_share_nothing_where_each_has_its_own(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    ann, bob = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))
    async with working(redis_url, keys, "private") as ran:
        await ask(client, CAPITAL, model="private", headers=ann)
        assert (await ask(client, CITY, model="private", headers=bob))[0] == CITY
        assert (await ask(client, CITY, model="private", headers=ann))[0] == CAPITAL
    assert len(ran) == 2


async def test_another_gateway_knows_what_one_has_answered_until_it_is_cleared(
    client: httpx.AsyncClient, gateway: Gateway, redis_url: str, keys: Keys, versions: Versions
) -> None:
    async with (
        working(redis_url, keys, "writer") as ran,
        running_gateway(gateway.settings, catalog=CATALOG, versions=versions) as second,
        httpx.AsyncClient(base_url=second.url, timeout=PATIENCE_S) as other,
    ):
        await ask(client, CAPITAL)
        only = {"cache-control": "only-if-cached"}
        body = {
            "model": "writer",
            "messages": [{"role": "user", "content": CITY}],
            "temperature": 0,
        }

        async def heard() -> bool:
            told = await other.post("/v1/chat/completions", json=body, headers=only)
            return told.status_code == 200 and CAPITAL in told.text

        await eventually(heard, what="the other gateway has heard of it")
        redis = connect(redis_url, timeout_s=TIMEOUT_S)
        assert await Cache(redis, keys).clear("writer") == 1
        assert not await redis.exists(keys.of("writer").prompts)

        async def gone() -> bool:
            told = await other.post("/v1/chat/completions", json=body, headers=only)
            return told.status_code == 504

        await eventually(gone, what="it is forgotten")
        await redis.aclose()
    assert len(ran) == 1


async def test_only_so_many_prompts_are_remembered(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with working(redis_url, keys, "brief") as ran:
        await ask(client, CAPITAL, model="brief")
        await ask(client, JOKE, model="brief")
        assert (await ask(client, CITY, model="brief"))[0] == CITY
    assert len(ran) == 3


async def test_meanings_of_another_artifact_are_not_compared(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    # Workers take up a new one before any gateway hears of it.
    async with answering(redis_url, keys, "writer", answer=answer_with(write)) as ran:
        for version, prompt, text in (
            ("e" * 12, CAPITAL, CAPITAL),
            ("f" * 12, CITY, CITY),
            ("f" * 12, SAME_CITY, CITY),
        ):
            async with answering(redis_url, keys, "meanings", answer=embedded_by(version)):
                assert (await ask(client, prompt))[0] == text
    assert len(ran) == 2


async def test_what_cannot_be_embedded_is_run(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(redis_url, keys, "hasty", answer=answer_with(write)) as ran:
        # Nobody embeds.
        assert (await ask(client, CAPITAL, model="hasty"))[0] == CAPITAL
        assert (await ask(client, CITY, model="hasty"))[0] == CITY
    assert len(ran) == 2
    warned = [one for one in caplog.messages if "meanings could not embed it" in one]
    assert len(warned) == 1
    async with working(redis_url, keys, "writer") as ran:
        assert (await ask(client, NOTHING))[0] == NOTHING
        assert (await ask(client, NOTHING))[1].startswith("forebay; hit")
    assert len(ran) == 1


async def test_predictions_and_the_official_client_are_answered_likewise(
    client: httpx.AsyncClient, gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    async with (
        working(redis_url, keys, "writer") as ran,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as official,
    ):
        for prompt in (CAPITAL, CITY):
            text = await official.completions.create(model="writer", prompt=prompt, temperature=0)
            assert text.choices[0].text.endswith(CAPITAL)
        body = {"version": "writer", "input": {"prompt": SPAIN, "temperature": 0}}
        made = await client.post("/v1/predictions", json=body, headers={"prefer": "wait"})
        assert made.json()["status"] == "succeeded"
        read_back = await client.get(f"/v1/predictions/{made.json()['id']}")
        assert read_back.json()["output"] == made.json()["output"]
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("semantic", "said"),
    [
        ('model = "nobody"', "'nobody' is none"),
        ('model = "writer"', "'writer' is none"),
        ('model = "meanings"\nthreshold = 0.2', "0.5 to 1"),
        ('model = "meanings"\nentries = 0', "1 to 5,000"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Any, semantic: str, said: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.meanings]\ntask = "embedding"\nbackend = "onnx"\nsource = "package:some"\n\n'
        '[models.writer]\ntask = "generation"\nbackend = "onnx"\nsource = "package:some"\n\n'
        f"[models.writer.cache]\nenabled = true\n\n[models.writer.cache.semantic]\n{semantic}\n"
    )
    with pytest.raises(ConfigurationError, match=said):
        read(path)


def test_a_model_that_writes_nothing_has_none(tmp_path: Any) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.meanings]\ntask = "embedding"\nbackend = "onnx"\nsource = "package:some"\n'
        '[models.meanings.cache]\nenabled = true\nsemantic = {model = "meanings"}\n'
    )
    with pytest.raises(ConfigurationError, match=r"cache\.semantic.*generates texts"):
        read(path)
