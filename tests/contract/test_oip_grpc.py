"""The unmodified `tritonclient.grpc` and `.grpc.aio` against a real gateway and real lanes."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from forebay.contract.caching import CacheOptions
from forebay.contract.prediction import Lane
from forebay.contract.rows import TextRow, TokensRow
from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import DIMENSIONS, VERSION, answering
from tests.fixtures.gateway import MODELS, Gateway, running_gateway
from tests.fixtures.lanes import fill_lane, rows_on_lanes
from tests.fixtures.tensors import (
    EXPECTED,
    TEXTS,
    KnownVersions,
    numbers,
    strings,
    texts,
    vectors,
)
from tests.fixtures.waiting import PATIENCE_S, eventually

T = TypeVar("T")
Code = grpc.StatusCode

MAX_BODY = 1_000_000


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(
        redis_url=redis_url,
        key_prefix=key_prefix,
        max_body_bytes=MAX_BODY,
        grpc_port=free_port(),
    )
    async with running_gateway(settings, versions=KnownVersions()) as running:
        yield running


def target(gateway: Gateway) -> str:
    return f"127.0.0.1:{gateway.settings.grpc_port}"


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Any]:
    async with triton_aio.InferenceServerClient(target(gateway)) as client:
        yield client


@pytest.fixture
async def stub(gateway: Gateway) -> AsyncIterator[Any]:
    """The generated client, as other languages have it."""
    async with grpc.aio.insecure_channel(target(gateway)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
async def minilm(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "minilm"):
        yield


async def blocking(gateway: Gateway, ask: Callable[[Any], T]) -> T:
    """Ask with the client that blocks, on a thread of its own."""

    def work() -> T:
        with triton.InferenceServerClient(target(gateway)) as client:
            return ask(client)

    return await asyncio.to_thread(work)


@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("outputs", [None, [triton.InferRequestedOutput("embedding")]])
async def test_texts_become_embeddings(
    client: Any, minilm: None, outputs: Any, column: bool
) -> None:
    result = await client.infer(
        "minilm", [texts(triton, TEXTS, column=column)], outputs=outputs, request_id="mine-7"
    )
    assert np.array_equal(result.as_numpy("embedding"), EXPECTED)
    told = result.get_response()
    assert (told.model_name, told.model_version, told.id) == ("minilm", VERSION, "mine-7")
    assert (told.outputs[0].datatype, list(told.outputs[0].shape)) == ("FP32", [3, DIMENSIONS])


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
async def test_the_client_that_blocks_works_as_well_and_may_compress(
    gateway: Gateway, minilm: None, algorithm: str | None
) -> None:
    def ask(client: Any) -> Any:
        return client.infer(
            "minilm", [texts(triton, TEXTS)], compression_algorithm=algorithm
        ).as_numpy("embedding")

    assert np.array_equal(await blocking(gateway, ask), EXPECTED)


async def test_the_client_that_blocks_may_ask_without_waiting(
    gateway: Gateway, minilm: None
) -> None:
    def ask(client: Any) -> Any:
        told: queue.Queue[Any] = queue.Queue()
        client.async_infer(
            "minilm", [texts(triton, TEXTS)], lambda result, error: told.put((result, error))
        )
        result, error = told.get(timeout=PATIENCE_S)
        assert error is None
        return result.as_numpy("embedding")

    assert np.array_equal(await blocking(gateway, ask), EXPECTED)


async def test_token_ids_are_rows_and_a_mask_cuts_their_padding(client: Any, minilm: None) -> None:
    ids = numbers(triton, "input_ids", [[101, 7592, 102], [101, 102, 0]])
    mask = numbers(triton, "attention_mask", [[1, 1, 1], [1, 1, 0]])
    result = await client.infer("minilm", [mask, ids])
    assert np.array_equal(
        result.as_numpy("embedding"), vectors(TokensRow((101, 7592, 102)), TokensRow((101, 102)))
    )


async def test_json_values_go_through_echo(client: Any, redis_url: str, keys: Keys) -> None:
    values = [b'{"a": [1, 2]}', b'"text"', b"null"]
    async with answering(redis_url, keys, "echo"):
        result = await client.infer("echo", [strings(triton, "value", values)])
    assert list(result.as_numpy("value")) == values


def request(**fields: Any) -> Any:
    return pb.ModelInferRequest(**{"model_name": "minilm", **fields})


def tensor(**fields: Any) -> Any:
    told = {"name": "text", "datatype": "BYTES", "shape": [1], **fields}
    return pb.ModelInferRequest.InferInputTensor(**told)


def contents(**fields: Any) -> Any:
    return pb.InferTensorContents(**fields)


A = contents(bytes_contents=[b"a"])


async def test_typed_contents_are_answered_in_typed_contents(stub: Any, minilm: None) -> None:
    text = tensor(shape=[3], contents=contents(bytes_contents=[text.encode() for text in TEXTS]))
    told = await stub.ModelInfer(request(inputs=[text]))
    assert not told.raw_output_contents
    made = np.array(told.outputs[0].contents.fp32_contents, np.float32).reshape(3, DIMENSIONS)
    assert np.array_equal(made, EXPECTED)
    ids = tensor(
        name="input_ids",
        datatype="INT64",
        shape=[1, 3],
        contents=contents(int64_contents=[101, 7592, 102]),
    )
    wanted = request(inputs=[ids])
    wanted.parameters["binary_data_output"].bool_param = True
    told = await stub.ModelInfer(wanted)
    assert np.array_equal(
        np.frombuffer(told.raw_output_contents[0], "<f4"),
        vectors(TokensRow((101, 7592, 102)))[0],
    )


async def test_a_version_may_be_named(client: Any, minilm: None) -> None:
    result = await client.infer("minilm", [texts(triton, ["a"])], model_version=VERSION)
    assert np.array_equal(result.as_numpy("embedding"), vectors(TextRow("a")))
    with pytest.raises(InferenceServerException, match="has no version '1'") as caught:
        await client.infer("minilm", [texts(triton, ["a"])], model_version="1")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


async def test_rows_over_the_limit_are_named_and_may_be_cut(client: Any, minilm: None) -> None:
    given = [texts(triton, ["short", "much too long " * 20])]
    with pytest.raises(InferenceServerException, match="Row 1: too long") as caught:
        await client.infer("minilm", given)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    result = await client.infer("minilm", given, parameters={"truncate": True})
    assert result.as_numpy("embedding").shape == (2, DIMENSIONS)


async def test_priority_chooses_the_lane_and_timeout_the_deadline(
    client: Any, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm") as delivered:
        for priority in (0, 1, 2):
            await client.infer("minilm", [texts(triton, [f"{priority}"])], priority=priority)
    assert [each.lane for each in delivered] == [Lane.REALTIME, Lane.REALTIME, Lane.BULK]
    with pytest.raises(InferenceServerException, match="not done within") as caught:
        await client.infer("minilm", [texts(triton, ["a"])], timeout=20_000)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


async def test_the_server_and_its_models_are_described(client: Any) -> None:
    assert await client.is_server_live()
    await eventually(client.is_server_ready, what="the gateway is ready")
    assert await client.is_model_ready("minilm", VERSION)
    assert not await client.is_model_ready("nothing")
    server = await client.get_server_metadata()
    assert (server.name, "statistics" in server.extensions) == ("forebay", True)
    model = await client.get_model_metadata("minilm", as_json=True)
    assert model["versions"] == [VERSION]
    assert {"name": "text", "datatype": "BYTES", "shape": ["-1"]} in model["inputs"]
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": ["-1", "8"]}]
    config = (await client.get_model_config("minilm")).config
    assert (config.name, config.backend, config.max_batch_size) == ("minilm", "onnx", 0)
    assert (config.input[0].name, config.input[0].optional) == ("text", True)
    assert triton.model_config_pb2.DataType.Name(config.output[0].data_type) == "TYPE_FP32"


async def test_the_repository_lists_all_models_and_heeds_what_it_can(client: Any) -> None:
    index = await client.get_model_repository_index()
    assert [(model.name, model.state) for model in index.models] == [
        (name, "READY") for name in ("echo", "hasty", "minilm", "narrow")
    ]
    await client.load_model("minilm")
    with pytest.raises(InferenceServerException, match=r"models\.toml") as caught:
        await client.load_model("minilm", config="{}")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException, match="can't be unloaded"):
        await client.unload_model("minilm")


async def test_what_the_server_does_not_have_is_unimplemented(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await client.get_system_shared_memory_status()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_statistics_count_what_came_by_either_way(
    client: Any, gateway: Gateway, minilm: None
) -> None:
    await client.infer("minilm", [texts(triton, TEXTS)])
    (told,) = (await client.get_inference_statistics("minilm")).model_stats
    assert (told.name, told.version, told.inference_count) == ("minilm", VERSION, 3)
    assert told.inference_stats.success.count == 1
    assert told.inference_stats.compute_infer.ns == 3_000_000
    every = (await client.get_inference_statistics()).model_stats
    assert [model.name for model in every] == ["echo", "hasty", "minilm", "narrow"]


async def test_a_request_that_comes_again_with_its_key_gets_the_first_ones_answer(
    client: Any, redis_url: str, keys: Keys
) -> None:
    headers = {"idempotency-key": "once"}
    async with answering(redis_url, keys, "minilm") as delivered:
        for _ in range(2):
            result = await client.infer("minilm", [texts(triton, TEXTS)], headers=headers)
            assert np.array_equal(result.as_numpy("embedding"), EXPECTED)
    assert len(delivered) == 1


async def test_a_stream_answers_each_request_in_order_and_outlives_a_bad_one(
    client: Any, minilm: None
) -> None:
    many = 100

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(many):
            text = f"text {number}" if number != 7 else "much too long " * 20
            yield {
                "model_name": "minilm",
                "inputs": [texts(triton, [text])],
                "request_id": f"r{number}",
            }

    answers = [answer async for answer in client.stream_infer(requests())]
    assert len(answers) == many
    for number, (result, error) in enumerate(answers):
        if number == 7:
            assert "too long" in error.message()
            continue
        assert error is None
        assert result.get_response().id == f"r{number}"
        expected = vectors(TextRow(f"text {number}"))
        assert np.array_equal(result.as_numpy("embedding"), expected)


async def test_the_client_that_blocks_may_stream(gateway: Gateway, minilm: None) -> None:
    def ask(client: Any) -> Any:
        told: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: told.put((result, error)))
        given = [texts(triton, TEXTS)]
        client.async_stream_infer("minilm", given, enable_empty_final_response=True)
        result, error = told.get(timeout=PATIENCE_S)
        client.stop_stream()
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param
        return result.as_numpy("embedding")

    assert np.array_equal(await blocking(gateway, ask), EXPECTED)


BAD: dict[str, tuple[Any, Code, str]] = {
    "another datatype": (
        request(inputs=[tensor(datatype="INT64", contents=contents(int64_contents=[1]))]),
        Code.INVALID_ARGUMENT,
        "datatype BYTES",
    ),
    "contents of another kind": (
        request(inputs=[tensor(contents=contents(fp32_contents=[1.0]))]),
        Code.INVALID_ARGUMENT,
        "not in fp32_contents",
    ),
    "no contents": (request(inputs=[tensor()]), Code.INVALID_ARGUMENT, "1 elements, and 0 came"),
    "raw and typed contents": (
        request(inputs=[tensor(contents=A)], raw_input_contents=[b"\x01\x00\x00\x00a"]),
        Code.INVALID_ARGUMENT,
        "not both",
    ),
    "raw contents for another number of inputs": (
        request(inputs=[tensor()], raw_input_contents=[b"", b""]),
        Code.INVALID_ARGUMENT,
        "2 items for 1 inputs",
    ),
    "raw contents that are cut": (
        request(inputs=[tensor()], raw_input_contents=[b"\x02\x00\x00\x00a"]),
        Code.INVALID_ARGUMENT,
        "is said to have 2 bytes",
    ),
    "bytes that are fewer than declared": (
        request(
            inputs=[tensor(name="input_ids", datatype="INT64", shape=[1, 3])],
            raw_input_contents=[b"x" * 23],
        ),
        Code.INVALID_ARGUMENT,
        "24 bytes, and 23 bytes came",
    ),
    "a negative dimension": (
        request(inputs=[tensor(shape=[-1], contents=A)]),
        Code.INVALID_ARGUMENT,
        "shape",
    ),
    "two negative dimensions": (
        request(inputs=[tensor(name="input_ids", datatype="INT64", shape=[-1, -1])]),
        Code.INVALID_ARGUMENT,
        "shape",
    ),
    "a huge dimension": (
        request(inputs=[tensor(shape=[2**62], contents=A)]),
        Code.INVALID_ARGUMENT,
        "2,048 at most",
    ),
    "dimensions whose product is huge": (
        request(
            inputs=[tensor(name="input_ids", datatype="INT64", shape=[2_048, 2**62])],
            raw_input_contents=[b"x"],
        ),
        Code.INVALID_ARGUMENT,
        "more than 10^18 bytes",
    ),
    "many dimensions": (
        request(inputs=[tensor(shape=[1] * 10_000, contents=A)]),
        Code.INVALID_ARGUMENT,
        "more dimensions",
    ),
    "too many rows": (
        request(inputs=[tensor(shape=[2_049], contents=contents(bytes_contents=[b"a"] * 2_049))]),
        Code.INVALID_ARGUMENT,
        "2,049 rows",
    ),
    "text that is not UTF-8": (
        request(inputs=[tensor(contents=contents(bytes_contents=[b"\xff"]))]),
        Code.INVALID_ARGUMENT,
        "not UTF-8",
    ),
    "an unknown model": (
        request(model_name="nothing", inputs=[tensor(contents=A)]),
        Code.NOT_FOUND,
        "no model 'nothing'",
    ),
    "an unknown version": (
        request(model_version="000000000000", inputs=[tensor(contents=A)]),
        Code.NOT_FOUND,
        "has no version",
    ),
    "an unknown output": (
        request(
            inputs=[tensor(contents=A)],
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="logits")],
        ),
        Code.INVALID_ARGUMENT,
        "no output 'logits'",
    ),
    "an unknown parameter": (
        request(
            inputs=[tensor(contents=A)],
            parameters={"colour": pb.InferParameter(double_param=1.0)},
        ),
        Code.INVALID_ARGUMENT,
        "parameters.colour",
    ),
    "a parameter of no value": (
        request(inputs=[tensor(contents=A)], parameters={"truncate": pb.InferParameter()}),
        Code.INVALID_ARGUMENT,
        "parameters.truncate",
    ),
    "shared memory": (
        request(
            inputs=[
                tensor(parameters={"shared_memory_region": pb.InferParameter(string_param="x")})
            ]
        ),
        Code.INVALID_ARGUMENT,
        "shared_memory_region",
    ),
    "more than ever fits": (
        request(
            model_name="narrow",
            inputs=[tensor(shape=[3], contents=contents(bytes_contents=[b"a", b"b", b"c"]))],
        ),
        Code.INVALID_ARGUMENT,
        "never holds more than 2",
    ),
    "a message over the bound": (
        request(raw_input_contents=[b"x" * 2_000_000]),
        Code.RESOURCE_EXHAUSTED,
        "larger than max",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests_are_refused_with_words_and_nothing_is_enqueued(
    stub: Any, redis_url: str, keys: Keys, name: str
) -> None:
    given, code, words = BAD[name]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(given)
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
    assert await rows_on_lanes(redis_url, keys, given.model_name) == 0


async def test_a_message_that_is_larger_once_decompressed_is_refused(gateway: Gateway) -> None:
    bomb = request(raw_input_contents=[b"\0" * 50_000_000])
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(target(gateway), options=options) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(bomb, compression=grpc.Compression.Gzip)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED


async def test_bytes_that_are_no_message_are_an_error(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(target(gateway)) as channel:
        infer: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError):
            await infer(b"\xff" * 20)


async def test_a_stream_that_breaks_off_ends_when_what_came_before_is_answered(
    gateway: Gateway, minilm: None
) -> None:
    async with grpc.aio.insecure_channel(target(gateway)) as channel:
        infer: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        call = infer()
        await call.write(request(inputs=[tensor(contents=A)]).SerializeToString())
        first = pb.ModelStreamInferResponse.FromString(await call.read())
        assert first.infer_response.model_name == "minilm"
        await call.write(b"\xff" * 20)
        async with asyncio.timeout(PATIENCE_S):
            await call.code()


async def test_every_answer_has_a_request_id_and_a_refusal_says_when_to_come_back(
    stub: Any, minilm: None, redis_url: str, keys: Keys
) -> None:
    call = stub.ModelInfer(request(inputs=[tensor(contents=A)]))
    await call
    told = dict(await call.trailing_metadata())
    assert told["x-request-id"].startswith("req_")
    assert "compute;dur=3.00" in told["server-timing"]
    await fill_lane(redis_url, keys, "narrow", 2)
    one = tensor(shape=[1], contents=contents(bytes_contents=[b"a"]))
    call = stub.ModelInfer(request(model_name="narrow", inputs=[one]))
    assert await call.code() is Code.RESOURCE_EXHAUSTED
    assert dict(await call.trailing_metadata())["retry-after"] == "1"


@pytest.mark.parametrize("how", ["cancel", "hang up", "leave the stream"])
async def test_a_client_that_goes_away_cancels_what_it_waited_for(
    gateway: Gateway, redis_url: str, keys: Keys, how: str
) -> None:
    given = request(inputs=[tensor(contents=A)])

    async def waits() -> bool:
        return await rows_on_lanes(redis_url, keys, "minilm") == 1

    async def is_off_the_lane() -> bool:
        return not await waits()

    channel = grpc.aio.insecure_channel(target(gateway))
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    if how == "leave the stream":
        call = stub.ModelStreamInfer()
        await call.write(given)
    else:
        call = stub.ModelInfer(given)
    await eventually(waits, what="the row is on its lane")
    if how == "hang up":
        await channel.close()
    else:
        call.cancel()
    await eventually(is_off_the_lane, what="the row is off its lane")
    await channel.close()


async def test_the_clients_deadline_is_the_requests(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request(inputs=[tensor(contents=A)]), timeout=0.2)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_redis_out_of_reach_is_unavailable(key_prefix: str) -> None:
    settings = Settings(
        redis_url=f"redis://127.0.0.1:{free_port()}",
        key_prefix=key_prefix,
        redis_timeout_s=0.2,
        grpc_port=free_port(),
    )
    async with (
        running_gateway(settings) as gateway,
        triton_aio.InferenceServerClient(target(gateway)) as client,
    ):
        assert await client.is_server_live()
        assert not await client.is_server_ready()
        assert not await client.is_model_ready("minilm")
        with pytest.raises(InferenceServerException) as caught:
            await client.infer("minilm", [texts(triton, ["a"])])
        assert caught.value.status() == "StatusCode.UNAVAILABLE"


async def test_metadata_says_what_the_cache_does(
    redis_url: str, key_prefix: str, keys: Keys
) -> None:
    cached = msgspec.structs.replace(MODELS.models["minilm"], cache=CacheOptions(enabled=True))
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix, grpc_port=free_port())
    request = pb.ModelInferRequest(model_name="minilm")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"hello")
    async with (
        answering(redis_url, keys, "minilm") as delivered,
        running_gateway(
            settings, catalog=Catalog({"minilm": cached}), versions=KnownVersions()
        ) as gateway,
        grpc.aio.insecure_channel(target(gateway)) as channel,
    ):
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def told(*said: tuple[str, str]) -> str:
            call = stub.ModelInfer(request, metadata=said)
            await call
            return str(dict(await call.trailing_metadata())["cache-status"])

        assert await told() == "forebay; fwd=miss; stored"
        assert (await told()).startswith("forebay; hit; ttl=")
        assert await told(("cache-control", "no-store")) == "forebay; fwd=bypass"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await told(("cache-control", "only-if-cached, no-cache"))

        async def streamed(*said: tuple[str, str]) -> list[str]:
            answers = stub.ModelStreamInfer(iter([request, request]), metadata=said)
            return [answer.error_message async for answer in answers]

        assert await streamed(("cache-control", "only-if-cached")) == ["", ""]
        none = await streamed(("cache-control", "only-if-cached, no-cache"))
        assert all("only-if-cached" in message for message in none)
    assert refused.value.code() is Code.DEADLINE_EXCEEDED
    assert "only-if-cached" in str(refused.value.details())
    assert len(delivered) == 2
