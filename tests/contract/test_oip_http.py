"""The unmodified `tritonclient.http` and `.http.aio` against a real gateway and real lanes."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

from forebay.contract.prediction import Lane
from forebay.contract.rows import TextRow, TokensRow
from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.answering import DIMENSIONS, VERSION, answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import fill_lane, rows_on_lanes
from tests.fixtures.tensors import EXPECTED, TEXTS, KnownVersions, numbers, texts, vectors
from tests.fixtures.waiting import PATIENCE_S, eventually

T = TypeVar("T")

INFER = "/v2/models/minilm/infer"
HEADER = "Inference-Header-Content-Length"
MAX_BODY = 1_000_000


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix, max_body_bytes=MAX_BODY)
    async with running_gateway(settings, versions=KnownVersions()) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Any]:
    async with http_aio.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture
async def plain(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def minilm(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "minilm"):
        yield


def in_json(tensor: Any, array: Any) -> Any:
    """The same tensor with its elements in the JSON."""
    return tensor.set_data_from_numpy(array, binary_data=False)


def text_input(given: list[str], *, binary: bool = True, column: bool = False) -> Any:
    tensor = texts(http, given, column=column)
    if not binary:
        array = np.array([text.encode() for text in given], np.object_)
        in_json(tensor, array.reshape(tensor.shape()))
    return tensor


def numbers_input(name: str, given: list[list[int]], *, binary: bool = True) -> Any:
    tensor = numbers(http, name, given)
    return tensor if binary else in_json(tensor, np.array(given, np.int64))


async def blocking(gateway: Gateway, ask: Callable[[Any], T]) -> T:
    """Ask with the client that blocks, on a thread of its own."""

    def work() -> T:
        with http.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
            return ask(client)

    return await asyncio.to_thread(work)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("column", [True, False])
async def test_texts_become_embeddings_in_binary_and_in_json(
    client: Any, minilm: None, binary_in: bool, binary_out: bool | None, column: bool
) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [http.InferRequestedOutput("embedding", binary_data=binary_out)]
    result = await client.infer(
        "minilm",
        [text_input(TEXTS, binary=binary_in, column=column)],
        outputs=outputs,
        request_id="mine-7",
    )
    assert np.array_equal(result.as_numpy("embedding"), EXPECTED)
    told = result.get_response()
    assert (told["model_name"], told["model_version"]) == ("minilm", VERSION)
    assert told["id"] == "mine-7"
    (output,) = told["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [3, DIMENSIONS])
    assert ("data" in output) is (binary_out is False)


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
async def test_the_client_that_blocks_works_as_well_and_may_compress(
    gateway: Gateway, minilm: None, algorithm: str | None
) -> None:
    def ask(client: Any) -> Any:
        return client.infer(
            "minilm",
            [text_input(TEXTS)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        ).as_numpy("embedding")

    assert np.array_equal(await blocking(gateway, ask), EXPECTED)


async def test_the_client_that_blocks_may_ask_without_waiting(
    gateway: Gateway, minilm: None
) -> None:
    def ask(client: Any) -> list[Any]:
        asked = [client.async_infer("minilm", [text_input([text])]) for text in TEXTS]
        return [each.get_result().as_numpy("embedding")[0] for each in asked]

    assert np.array_equal(await blocking(gateway, ask), EXPECTED)


@pytest.mark.parametrize("binary", [True, False])
async def test_token_ids_are_rows_and_a_mask_cuts_their_padding(
    client: Any, minilm: None, binary: bool
) -> None:
    ids = numbers_input("input_ids", [[101, 7592, 102], [101, 102, 0]], binary=binary)
    mask = numbers_input("attention_mask", [[1, 1, 1], [1, 1, 0]], binary=binary)
    result = await client.infer("minilm", [ids, mask])
    assert np.array_equal(
        result.as_numpy("embedding"), vectors(TokensRow((101, 7592, 102)), TokensRow((101, 102)))
    )
    result = await client.infer("minilm", [ids])
    assert np.array_equal(
        result.as_numpy("embedding"),
        vectors(TokensRow((101, 7592, 102)), TokensRow((101, 102, 0))),
    )


@pytest.mark.parametrize("binary", [True, False])
async def test_json_values_go_through_echo(
    client: Any, redis_url: str, keys: Keys, binary: bool
) -> None:
    values = [b'{"a": [1, 2]}', b'"text"', b"null"]
    tensor = http.InferInput("value", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(values, np.object_), binary_data=binary)
    outputs = [http.InferRequestedOutput("value", binary_data=binary)]
    async with answering(redis_url, keys, "echo"):
        result = await client.infer("echo", [tensor], outputs=outputs)
    given = [
        item if isinstance(item, bytes) else item.encode() for item in result.as_numpy("value")
    ]
    assert given == values


async def test_data_in_json_may_be_nested_as_its_shape_is(
    plain: httpx.AsyncClient, minilm: None
) -> None:
    nested = {"name": "input_ids", "datatype": "INT64", "shape": [2, 2], "data": [[1, 2], [3, 4]]}
    flat = {**nested, "data": [1, 2, 3, 4]}
    told = [(await plain.post(INFER, json={"inputs": [each]})).json() for each in (nested, flat)]
    assert told[0] == told[1]
    assert told[0]["outputs"][0]["shape"] == [2, DIMENSIONS]


async def test_a_version_may_be_named(client: Any, minilm: None) -> None:
    result = await client.infer("minilm", [text_input(["a"])], model_version=VERSION)
    assert np.array_equal(result.as_numpy("embedding"), vectors(TextRow("a")))
    with pytest.raises(InferenceServerException, match=r"has no version '1'"):
        await client.infer("minilm", [text_input(["a"])], model_version="1")


async def test_rows_over_the_limit_are_named_and_may_be_cut(client: Any, minilm: None) -> None:
    tensor = text_input(["short", "much too long " * 20])
    with pytest.raises(InferenceServerException, match="Row 1: too long") as caught:
        await client.infer("minilm", [tensor])
    assert caught.value.status() == "400"
    result = await client.infer("minilm", [tensor], parameters={"truncate": True})
    assert result.as_numpy("embedding").shape == (2, DIMENSIONS)


async def test_priority_chooses_the_lane_and_timeout_the_deadline(
    client: Any, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm") as delivered:
        for priority in (0, 1, 2):
            await client.infer("minilm", [text_input([f"{priority}"])], priority=priority)
    assert [each.lane for each in delivered] == [Lane.REALTIME, Lane.REALTIME, Lane.BULK]
    with pytest.raises(InferenceServerException, match="not done within") as caught:
        await client.infer("minilm", [text_input(["a"])], timeout=20_000)
    assert caught.value.status() == "504"


async def test_the_server_and_its_models_are_described(client: Any, gateway: Gateway) -> None:
    assert await client.is_server_live()
    await eventually(client.is_server_ready, what="the gateway is ready")
    assert await client.is_model_ready("minilm")
    assert await client.is_model_ready("minilm", VERSION)
    assert not await client.is_model_ready("nothing")
    server = await client.get_server_metadata()
    assert server["name"] == "forebay"
    assert "binary_tensor_data" in server["extensions"]
    model = await client.get_model_metadata("minilm")
    assert (model["name"], model["versions"]) == ("minilm", [VERSION])
    assert {"name": "text", "datatype": "BYTES", "shape": [-1]} in model["inputs"]
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}]
    config = await client.get_model_config("minilm", VERSION)
    assert config["max_batch_size"] == 0
    assert config["input"][0] == {
        "name": "text",
        "data_type": "TYPE_STRING",
        "dims": [-1],
        "optional": True,
    }

    def ask(client: Any) -> Any:
        return client.get_model_metadata("echo")["inputs"]

    assert await blocking(gateway, ask) == [{"name": "value", "datatype": "BYTES", "shape": [-1]}]


async def test_the_repository_lists_all_models_as_ready(client: Any) -> None:
    index = await client.get_model_repository_index()
    assert [(model["name"], model["state"]) for model in index] == [
        (name, "READY") for name in ("echo", "hasty", "minilm", "narrow")
    ]


async def test_loading_a_model_is_heard_and_unloading_one_is_refused(client: Any) -> None:
    await client.load_model("minilm")
    with pytest.raises(InferenceServerException, match=r"models\.toml") as caught:
        await client.load_model("minilm", config="{}")
    assert caught.value.status() == "501"
    with pytest.raises(InferenceServerException, match="can't be unloaded") as caught:
        await client.unload_model("minilm")
    assert caught.value.status() == "501"
    with pytest.raises(InferenceServerException, match="no model 'nothing'") as caught:
        await client.load_model("nothing")
    assert caught.value.status() == "404"


async def test_statistics_count_what_succeeded_and_what_failed(client: Any, minilm: None) -> None:
    await client.infer("minilm", [text_input(TEXTS)])
    with pytest.raises(InferenceServerException):
        await client.infer("minilm", [text_input(["much too long " * 20])])
    (told,) = (await client.get_inference_statistics("minilm"))["model_stats"]
    assert (told["name"], told["version"]) == ("minilm", VERSION)
    assert (told["inference_count"], told["execution_count"]) == (3, 1)
    assert told["last_inference"] > 0
    stats = told["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (1, 1)
    assert stats["queue"] == {"count": 1, "ns": 1_000_000}
    assert stats["compute_input"] == {"count": 1, "ns": 2_000_000}
    assert stats["compute_infer"] == {"count": 1, "ns": 3_000_000}
    every = (await client.get_inference_statistics())["model_stats"]
    assert [model["name"] for model in every] == ["echo", "hasty", "minilm", "narrow"]


async def test_a_request_that_comes_again_with_its_key_gets_the_first_ones_answer(
    client: Any, redis_url: str, keys: Keys
) -> None:
    headers = {"Idempotency-Key": "once"}
    async with answering(redis_url, keys, "minilm") as delivered:
        told = [
            (await client.infer("minilm", [text_input(TEXTS)], headers=headers)).as_numpy(
                "embedding"
            )
            for _ in range(2)
        ]
    assert np.array_equal(told[0], told[1])
    assert len(delivered) == 1


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **changes}


def body(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor()], **changes}


DEEP = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":%s}]}' % (b"[" * 900_000)
TEXT = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}

BAD_JSON: dict[str, tuple[object, str]] = {
    "another datatype": (body(inputs=[tensor(datatype="INT64", data=[1])]), "datatype BYTES"),
    "a datatype that isn't one": (body(inputs=[tensor(datatype="STRING")]), "datatype BYTES"),
    "more dimensions": (body(inputs=[tensor(shape=[1, 2], data=["a", "b"])]), "shape"),
    "no dimensions": (body(inputs=[tensor(shape=[])]), "shape"),
    "a negative dimension": (body(inputs=[tensor(shape=[-1])]), ">= 0"),
    "a huge dimension": (body(inputs=[tensor(shape=[2**62])]), "2,048 at most"),
    "a dimension over 64 bits": (body(inputs=[tensor(shape=[2**80])]), "shape"),
    "dimensions whose product is huge": (
        body(inputs=[tensor(name="input_ids", datatype="INT64", shape=[2048, 2**62], data=[1])]),
        "more than 10^18 elements",
    ),
    "many dimensions": (body(inputs=[tensor(shape=[1] * 1_000)]), "<= 8"),
    "fewer elements than declared": (body(inputs=[tensor(shape=[2])]), "2 elements, and 1 came"),
    "too many rows": (
        body(inputs=[tensor(shape=[2_049], data=["a"] * 2_049)]),
        "2,049 rows; one request takes 2,048",
    ),
    "no rows": (body(inputs=[tensor(shape=[0], data=[])]), "must not be empty"),
    "an empty text": (body(inputs=[tensor(data=[""])]), "must not be empty"),
    "data of another kind": (body(inputs=[tensor(data=[1])]), "expected `str`"),
    "a number out of range": (
        body(inputs=[tensor(name="input_ids", datatype="INT64", shape=[1, 1], data=[2**63])]),
        "out of the range of INT64|`int64`",
    ),
    "a token id that can't be": (
        body(inputs=[tensor(name="input_ids", datatype="INT64", shape=[1, 1], data=[-1])]),
        "from 0 to",
    ),
    "data that are nested otherwise": (
        body(inputs=[tensor(name="input_ids", datatype="INT64", shape=[2, 1], data=[[1, 2]])]),
        "not nested as its shape",
    ),
    "neither data nor binary data": (
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]},
        "either as data or",
    ),
    "binary data without a length of the JSON": ({"inputs": [TEXT]}, "0 are left"),
    "an input that isn't one": (body(inputs=[tensor(name="image")]), "no input 'image'"),
    "an input twice": (body(inputs=[tensor(), tensor()]), "more than once"),
    "no inputs": (body(inputs=[]), "Give text"),
    "both kinds of input": (
        body(
            inputs=[
                tensor(),
                tensor(name="input_ids", datatype="INT64", shape=[1, 1], data=[1]),
            ]
        ),
        "not both",
    ),
    "padding in front": (
        body(
            inputs=[
                tensor(name=name, datatype="INT64", shape=[1, 2], data=data)
                for name, data in (("input_ids", [0, 5]), ("attention_mask", [0, 1]))
            ]
        ),
        "padding goes behind",
    ),
    "an output that isn't one": (body(outputs=[{"name": "logits"}]), "no output 'logits'"),
    "an output twice": (body(outputs=[{"name": "embedding"}] * 2), "more than once"),
    "classification": (
        body(outputs=[{"name": "embedding", "parameters": {"classification": 3}}]),
        "classification",
    ),
    "shared memory": (
        body(inputs=[tensor(parameters={"shared_memory_region": "mine"})]),
        "shared_memory_region",
    ),
    "a sequence": (body(parameters={"sequence_id": 5}), "no state"),
    "an unknown parameter": (body(parameters={"colour": 1}), "parameters.colour"),
    "a parameter of texts": (body(parameters={"temperature": 1}), "that generate text"),
    "an unknown field": (body(model="minilm"), "'model'"),
    "no JSON": (b"nonsense", "not JSON"),
    "nothing": (b"", "not JSON"),
    "JSON of another kind": (b"[]", "object"),
    "JSON nested a million deep": (b"[" * 999_999, "nests too deeply"),
    "data nested nearly a million deep": (DEEP, "nests too deeply"),
    "text that is not UTF-8": (
        b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["\xff"]}]}',
        "not UTF-8",
    ),
}


@pytest.mark.parametrize("name", BAD_JSON)
async def test_bad_json_is_refused_with_words_and_nothing_is_enqueued(
    plain: httpx.AsyncClient, redis_url: str, keys: Keys, name: str
) -> None:
    given, words = BAD_JSON[name]
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    answer = await plain.post(INFER, content=content)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert any(each in answer.json()["error"] for each in words.split("|")), answer.text
    assert answer.headers["x-request-id"]
    assert await rows_on_lanes(redis_url, keys, "minilm") == 0


def binary(raw: bytes, *, size: int | None = None, shape: tuple[int, ...] = (2,)) -> bytes:
    told = {
        "name": "text",
        "shape": shape,
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw) if size is None else size},
    }
    return json.dumps({"inputs": [told]}).encode() + raw


TWO = struct.pack("<I1sI1s", 1, b"a", 1, b"b")

BAD_BINARY = {
    "truncated": (binary(TWO[:-1], size=len(TWO)), "9 are left"),
    "more than declared": (binary(TWO + b"x", size=len(TWO)), "1 bytes of binary data are left"),
    "fewer elements": (binary(TWO, shape=(3,)), "hold 2"),
    "more elements": (binary(TWO, shape=(1,)), "5 bytes are left over"),
    "an element that is longer than the data": (
        binary(struct.pack("<I", 2**32 - 1), shape=(1,)),
        "element 0 is said to have 4,294,967,295 bytes",
    ),
    "a length that is cut": (binary(TWO[:7]), "hold 1"),
    "an enormous shape": (binary(TWO, shape=(2_048,)), "2,048 elements"),
    "text that is not UTF-8": (binary(struct.pack("<I1s", 1, b"\xff"), shape=(1,)), "not UTF-8"),
    "an enormous size": (binary(TWO, size=2**62), "binary_data_size"),
}


@pytest.mark.parametrize("name", BAD_BINARY)
async def test_bad_binary_data_are_refused_with_words_and_nothing_is_enqueued(
    plain: httpx.AsyncClient, redis_url: str, keys: Keys, name: str
) -> None:
    content, words = BAD_BINARY[name]
    length = content.index(b"}}]}") + 4
    answer = await plain.post(INFER, content=content, headers={HEADER: str(length)})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]
    assert await rows_on_lanes(redis_url, keys, "minilm") == 0


async def test_numbers_whose_bytes_are_not_as_many_as_declared_are_refused(
    plain: httpx.AsyncClient,
) -> None:
    told = {
        "name": "input_ids",
        "shape": [1, 3],
        "datatype": "INT64",
        "parameters": {"binary_data_size": 23},
    }
    text = json.dumps({"inputs": [told]}).encode()
    answer = await plain.post(INFER, content=text + b"x" * 23, headers={HEADER: str(len(text))})
    assert answer.status_code == 400
    assert "24 bytes, and 23 bytes came" in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "999999", "9" * 100_0, "٣"])
async def test_a_length_of_the_json_that_can_not_be_is_refused(
    plain: httpx.AsyncClient, length: str
) -> None:
    headers = [(HEADER.encode(), length.encode())]
    answer = await plain.post(INFER, content=b"{}", headers=headers)
    assert answer.status_code == 400
    assert "length of the JSON" in answer.json()["error"]


async def test_compressed_bodies_are_bounded_and_must_be_what_they_say(
    plain: httpx.AsyncClient,
) -> None:
    async def post(content: bytes, encoding: str) -> tuple[int, str]:
        headers = {"Content-Encoding": encoding}
        answer = await plain.post(INFER, content=content, headers=headers)
        return answer.status_code, answer.json()["error"]

    bomb = zlib.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BODY
    assert (await post(bomb, "deflate"))[0] == 413
    whole = zlib.compress(json.dumps(body()).encode())
    for content, encoding in ((whole[:-3], "deflate"), (whole, "gzip"), (whole + b"x", "deflate")):
        status, words = await post(content, encoding)
        assert (status, encoding in words) == (400, True)
    assert await post(whole, "br") == (
        415,
        "Content-Encoding takes gzip or deflate, or is left out.",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/minilm/versions/000000000000", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/minilm/versions/000000000000/infer", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
    ],
)
async def test_what_is_not_there_is_an_error_of_this_dialect(
    plain: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await plain.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


async def test_a_client_that_goes_away_cancels_what_it_waited_for(
    plain: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async def waiting(rows: int) -> bool:
        return await rows_on_lanes(redis_url, keys, "minilm") == rows

    asking = asyncio.create_task(plain.post(INFER, json=body()))
    await eventually(lambda: waiting(1), what="the row is on its lane")
    asking.cancel()
    await eventually(lambda: waiting(0), what="the row is off its lane")


async def test_a_body_over_the_bound_is_refused(plain: httpx.AsyncClient) -> None:
    answer = await plain.post(INFER, content=b"x" * (MAX_BODY + 1))
    assert (answer.status_code, set(answer.json())) == (413, {"error"})


async def test_a_full_lane_is_a_429_that_says_when_to_come_back(
    plain: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    await fill_lane(redis_url, keys, "narrow", 2)
    given = body(inputs=[tensor(shape=[1], data=["a"])])
    answer = await plain.post("/v2/models/narrow/infer", json=given)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
