"""The main job, whole: real client, gateway, server and worker, and a real model."""

import functools
import itertools
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import openai
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from forebay.contract.rows import Embedding, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.onnx import OnnxModel
from forebay.storage.artifacts import Artifact
from tests.fixtures.processes import peak_bytes
from tests.fixtures.stack import Stack
from tests.fixtures.tensors import texts as tensor_of_texts
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

SENTENCES = (
    (Path(__file__).parents[1] / "bench" / "data" / "sentences.txt").read_text("utf-8").split("\n")
)
LIMIT = 256
"""Tokens that minilm takes."""

Matrix = npt.NDArray[np.float32]

get = functools.partial(httpx.get, timeout=PATIENCE_S)
post = functools.partial(httpx.post, timeout=PATIENCE_S)


def texts(count: int) -> list[str]:
    """So many different texts, most of one sentence and every tenth of four."""
    sentences = [line for line in SENTENCES if line]
    made = []
    for number in range(count):
        start, length = number * 7, 1 if number % 10 else 4
        words = itertools.islice(itertools.cycle(sentences), start, start + length)
        made.append(f"{number}. " + " ".join(words))
    return made


def client_of(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE_S
    )


def embed_alone(backend: OnnxModel, chosen: list[str]) -> Matrix:
    """Each text's embedding, run by itself."""
    vectors = []
    for text in chosen:
        (row,) = backend.prepare([TextRow(text)], truncate=False)
        assert isinstance(row, PreparedRow)
        (output,) = backend.run([row])
        assert isinstance(output, Embedding)
        vectors.append(np.frombuffer(output.vector, "<f4"))
    return np.array(vectors)


@pytest.fixture(scope="module")
def alone(minilm: Artifact) -> OnnxModel:
    """The model without any of Forebay around it."""
    return OnnxModel(minilm.folder, minilm.manifest, threads=2)


@pytest.mark.slow
def test_ten_thousand_texts_equal_each_computed_alone_in_their_order(
    stack: Stack, alone: OnnxModel
) -> None:
    chosen = texts(10_000)
    served: list[list[float]] = []
    with client_of(stack) as client:
        for start in range(0, len(chosen), 1_000):
            answer = client.embeddings.create(model="minilm", input=chosen[start : start + 1_000])
            assert [item.index for item in answer.data] == list(range(len(answer.data)))
            served += [item.embedding for item in answer.data]

    cosines = np.sum(np.array(served, np.float32) * embed_alone(alone, chosen), axis=1)
    assert len(served) == len(chosen)
    assert float(cosines.min()) >= 0.9999


def test_floats_and_base64_are_the_same_numbers(stack: Stack) -> None:
    body = {"model": "minilm", "input": "The lake feeds a turbine."}
    as_floats = post(f"{stack.url}/v1/embeddings", json=body).json()
    with client_of(stack) as client:
        as_base64 = client.embeddings.create(model="minilm", input=str(body["input"]))

    floats = np.array(as_floats["data"][0]["embedding"], np.float32)
    assert floats.tobytes() == np.array(as_base64.data[0].embedding, np.float32).tobytes()
    assert as_floats["usage"] == {"prompt_tokens": 8, "total_tokens": 8}


@pytest.mark.parametrize("protocol", [triton_http, triton_grpc])
def test_tensors_come_to_the_same_numbers(stack: Stack, protocol: ModuleType) -> None:
    chosen = texts(100)
    port = stack.port if protocol is triton_http else stack.grpc_port
    with protocol.InferenceServerClient(f"127.0.0.1:{port}") as client:
        model = client.get_model_metadata("minilm")
        versions = model["versions"] if isinstance(model, dict) else model.versions
        answer = client.infer("minilm", [tensor_of_texts(protocol, chosen)])
        pinned = client.infer(
            "minilm", [tensor_of_texts(protocol, chosen)], model_version=versions[0]
        )
    with client_of(stack) as client:
        expected = client.embeddings.create(model="minilm", input=chosen)

    numbers = np.array([item.embedding for item in expected.data], np.float32)
    # To the last bits: how batches are cut is learned while they run, and in other company a
    # row's sums are rounded otherwise.
    for told in (answer, pinned):
        np.testing.assert_allclose(told.as_numpy("embedding"), numbers, rtol=0, atol=1e-6)


def test_token_ids_give_the_embedding_of_their_text(stack: Stack, alone: OnnxModel) -> None:
    text = "A river feeds the lake."
    (row,) = alone.prepare([TextRow(text)], truncate=False)
    assert isinstance(row, PreparedRow)
    ids = [int(id_) for id_ in row.data]
    with client_of(stack) as client:
        by_text = client.embeddings.create(model="minilm", input=text)
        by_ids = client.embeddings.create(model="minilm", input=ids)
        by_bare_ids = client.embeddings.create(model="minilm", input=[ids[1:-1], ids])

    expected = np.array(by_text.data[0].embedding)
    for item in (*by_ids.data, *by_bare_ids.data):
        assert float(np.dot(np.array(item.embedding), expected)) >= 0.9999
    assert by_ids.usage.total_tokens == by_text.usage.total_tokens == len(ids)


def test_a_text_over_the_limit_is_refused_by_index_unless_truncated(
    stack: Stack, alone: OnnxModel
) -> None:
    long = "water " * 300
    with client_of(stack) as client:
        with pytest.raises(openai.BadRequestError, match=r"Row 1.*302 tokens.*256") as refused:
            client.embeddings.create(model="minilm", input=["fine", long])
        cut = client.embeddings.create(model="minilm", input=long, extra_body={"truncate": True})

    assert "truncate" in refused.value.message
    expected = embed_alone(alone, ["water " * (LIMIT - 2)])[0]
    assert float(np.dot(np.array(cut.data[0].embedding), expected)) >= 0.9999
    assert cut.usage.total_tokens == LIMIT


BAD = {
    "an empty list": ({"model": "minilm", "input": []}, 400),
    "2,049 inputs": ({"model": "minilm", "input": ["x"] * 2_049}, 400),
    "a number for a text": ({"model": "minilm", "input": 7}, 400),
    "texts and numbers mixed": ({"model": "minilm", "input": ["x", 7]}, 400),
    "no model": ({"input": "x"}, 400),
    "no input": ({"model": "minilm"}, 400),
    "an unknown model": ({"model": "nobody", "input": "x"}, 404),
    "a model of another task": ({"model": "echo", "input": "x"}, 400),
    "a token id the model has not": ({"model": "minilm", "input": [[1, 99_999_999]]}, 400),
    "an unknown parameter": ({"model": "minilm", "input": "x", "temperature": 1}, 400),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_clear_error_and_disturbs_nobody(stack: Stack, name: str) -> None:
    body, status = BAD[name]
    worker = stack.child("worker", "minilm")
    answer = post(f"{stack.url}/v1/embeddings", json=body)

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) > 15
    assert worker.is_running()
    eventually_sync(lambda: nothing_waits(stack), what="nothing waits")


def test_broken_json_and_a_body_of_11_mb_are_refused(stack: Stack) -> None:
    broken = post(f"{stack.url}/v1/embeddings", content=b'{"model": "minilm", "inp')
    fat = json.dumps({"model": "minilm", "input": "x" * 11_000_000}).encode()
    too_big = post(f"{stack.url}/v1/embeddings", content=fat)
    chunked = post(f"{stack.url}/v1/embeddings", content=iter([fat[:6_000_000], fat]))

    assert broken.status_code == 400
    assert too_big.status_code == chunked.status_code == 413
    assert "10" in too_big.json()["error"]["message"]
    eventually_sync(lambda: nothing_waits(stack), what="nothing waits")


def nothing_waits(stack: Stack) -> bool:
    ready = get(f"{stack.url}/health/ready").json()
    return ready["models"]["minilm"]["demand"] == {"realtime": 0, "bulk": 0}  # type: ignore[no-any-return]


def test_a_job_is_created_polled_and_read_back(stack: Stack) -> None:
    created = post(
        f"{stack.url}/v1/predictions",
        json={"version": "minilm", "input": {"text": ["one", "two"]}},
    )
    assert created.status_code in (201, 202)
    got = created.json()
    assert got["status"] == "starting"
    done = eventually_sync(lambda: finished(stack, got["id"]), what="the prediction ends")

    assert done["status"] == "succeeded"
    assert done["input"] == {"text": ["one", "two"]}
    assert [len(vector) for vector in done["output"]] == [384, 384]


def finished(stack: Stack, id_: str) -> dict[str, Any] | None:
    prediction = get(f"{stack.url}/v1/predictions/{id_}").json()
    return prediction if prediction["status"] not in ("starting", "processing") else None


def test_the_worker_stays_under_200_mb_and_loads_no_torch(stack: Stack) -> None:
    full = [f"{number} " + "water " * 250 for number in range(16)]
    huge = ["water " * 1_600_000]
    with client_of(stack) as client, ThreadPoolExecutor(16) as threads:

        def embed(chosen: list[str]) -> int:
            extra = {"truncate": True}
            return len(
                client.embeddings.create(model="minilm", input=chosen, extra_body=extra).data
            )

        for chosen, times in ((texts(500), 1), (full, 32), (huge, 12)):
            answers = list(threads.map(embed, [chosen] * times))
            assert answers == [len(chosen)] * times
    worker = stack.child("worker", "minilm")

    assert peak_bytes(worker) <= 200_000_000
    loaded = {Path(mapped.path).name for mapped in worker.memory_maps()}
    assert any("onnxruntime" in name for name in loaded)
    assert not any("torch" in name for name in loaded)


def test_without_its_server_the_gateway_says_503_at_once_and_recovers_by_itself(
    own_stack: Stack,
) -> None:
    body = {"model": "minilm", "input": "x"}
    url = f"{own_stack.url}/v1/embeddings"
    assert post(url, json=body).status_code == 200
    # Who would start it again is held until it has been missed.
    own_stack.process.send_signal(signal.SIGSTOP)
    try:
        own_stack.server().kill()
        refused = eventually_sync(
            lambda: answer if (answer := post(url, json=body)).status_code == 503 else None,
            what="a 503",
        )
    finally:
        own_stack.process.send_signal(signal.SIGCONT)

    assert int(refused.headers["retry-after"]) >= 1
    assert "error" in refused.json()
    # `forebay up` starts its server again; gateway and workers find it by themselves.
    eventually_sync(lambda: post(url, json=body).status_code == 200, what="recovery")


def test_a_worker_killed_under_load_is_replaced_and_nothing_is_lost(own_stack: Stack) -> None:
    ids = [
        post(
            f"{own_stack.url}/v1/predictions",
            json={"version": "minilm", "input": {"text": [f"{n} {i}" for i in range(64)]}},
        ).json()["id"]
        for n in range(20)
    ]
    own_stack.child("worker", "minilm").kill()
    ends = [
        eventually_sync(lambda id_=id_: finished(own_stack, id_), what=id_)  # type: ignore[misc]
        for id_ in ids
    ]

    assert {end["status"] for end in ends} == {"succeeded"}
