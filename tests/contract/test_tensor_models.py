"""ONNX files behind `forebay up`, asked with unmodified clients: tritonclient's four, and httpx.

Among them are the three models of an OCR: where text is, which way up it is, and what it says.
"""

import asyncio
import base64
import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import rapidocr_onnxruntime
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from ml_dtypes import bfloat16
from rapidocr_onnxruntime.ch_ppocr_cls import TextClassifier
from rapidocr_onnxruntime.utils import read_yaml
from tritonclient.utils import InferenceServerException

from forebay.build import pipeline
from forebay.runtime.catalog import read
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures import onnx_models
from tests.fixtures.pictures import encoded, text_line
from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S
from tests.integration.test_readme import run

pytestmark = pytest.mark.slow

PACKAGE = Path(rapidocr_onnxruntime.__file__).parent
MODELS = """
[models.mirror]
task = "tensors"
backend = "onnx"
source = "onnx:mirror.onnx"
threads = 1

[models.squared]
task = "tensors"
backend = "onnx"
source = "onnx:squared.onnx"
threads = 1

[models.summed]
task = "tensors"
backend = "onnx"
source = "onnx:summed.onnx"
threads = 1

"""
DOCS = Path(__file__).parents[2] / "docs" / "examples" / "ocr.toml"
LINES = ("The river feeds the lake", "Forebay 2026", "A turbine takes water as it comes")

VALUES: dict[str, Any] = {
    "fp16": np.array([[0.5, -2.0], [65_504.0, 1e-7]], np.float16),
    "fp32": np.array([[1.5, -2.25], [3e38, 1e-30]], np.float32),
    "fp64": np.array([[0.1, -1e300], [5.0, 7.0]], np.float64),
    "int8": np.array([[-128, 127], [0, 1]], np.int8),
    "int64": np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64),
    "uint8": np.array([[0, 255], [1, 2]], np.uint8),
    "bool": np.array([[True, False], [False, True]]),
    "bytes": np.array([[b"a", "ünïcode \U0001f30a".encode()], [b"", b"b" * 300]], np.object_),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("tensors")
    onnx_models.mirror(folder / "mirror.onnx")
    onnx_models.squared(folder / "squared.onnx")
    onnx_models.summed(folder / "summed.onnx")
    models = folder / "models.toml"
    known = MODELS + DOCS.read_text("utf-8").replace('"ocr.py:', f'"{DOCS.parent}/ocr.py:')
    models.write_text(known)
    store = ArtifactStore(folder / "built")
    for spec in read(models).models.values():
        if spec.is_built:
            pipeline.build(spec, store)
    with running_stack(folder / "built", folder, models_file=str(models)) as running:
        yield running


def tensors_of(
    client: Any, arrays: dict[str, Any], *, datatype: str = "FP32", **options: Any
) -> list[Any]:
    made = []
    for name, array in arrays.items():
        kind = name.upper() if name in VALUES else datatype
        tensor = client.InferInput(name, list(array.shape), kind)
        made.append(tensor.set_data_from_numpy(array, **options))
    return made


def asked(
    stack: Stack, how: str, model: str, arrays: dict[str, Any], **options: Any
) -> Callable[[str], Any]:
    """Infer with one of the four clients; gives the outputs by name."""
    of_http = how.startswith("http")
    library: Any = http if of_http else grpc
    address = stack.url.removeprefix("http://") if of_http else f"127.0.0.1:{stack.grpc_port}"
    inputs = tensors_of(library, arrays, **options)
    if how.endswith("aio"):
        aio: Any = http_aio if of_http else grpc_aio

        async def work() -> Any:
            async with aio.InferenceServerClient(address) as client:
                return await client.infer(model, inputs)

        result: Any = asyncio.run(work())
    else:
        with library.InferenceServerClient(address) as client:
            result = client.infer(model, inputs)
    outputs: Callable[[str], Any] = result.as_numpy
    return outputs


CLIENTS = ("http", "http.aio", "grpc", "grpc.aio")


@pytest.mark.parametrize("how", CLIENTS)
def test_every_datatype_comes_back_as_it_went(stack: Stack, how: str) -> None:
    got = asked(stack, how, "mirror", VALUES)
    for name, array in VALUES.items():
        assert np.array_equal(got(f"{name}_out"), array), name


def test_the_same_with_elements_in_json(stack: Stack) -> None:
    # The client itself has no FP16 in JSON.
    inputs = {name: array for name, array in VALUES.items() if name != "fp16"}
    text = {**inputs, "fp32": np.array([[1.5, -2.25], [0.5, 4.0]], np.float32)}
    library: Any = http
    made = tensors_of(library, text, binary_data=False)
    made += tensors_of(library, {"fp16": VALUES["fp16"]})
    wanted = [http.InferRequestedOutput(f"{name}_out", binary_data=False) for name in text]
    with http.InferenceServerClient(stack.url.removeprefix("http://")) as client:
        result = client.infer("mirror", made, outputs=wanted)
    for name, array in text.items():
        got = result.as_numpy(f"{name}_out")
        if name == "bytes":
            got = np.array([[item.encode() for item in line] for line in got], np.object_)
        assert np.array_equal(got, array), name


@pytest.mark.parametrize("how", CLIENTS)
def test_bf16_goes_as_the_client_has_it(stack: Stack, how: str) -> None:
    array = np.array([[1.0, -3.0], [0.5, 16.0]], bfloat16)
    assert np.array_equal(
        asked(stack, how, "squared", {"x": array}, datatype="BF16")("y"), array**2
    )


def test_metadata_and_configuration_are_the_files(stack: Stack) -> None:
    with http.InferenceServerClient(stack.url.removeprefix("http://")) as client:
        told = client.get_model_metadata("detect")
        config = client.get_model_config("mirror")
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3, -1, -1]}]
    assert told["outputs"][0]["shape"] == [-1, 1, -1, -1]
    assert told["platform"] == "forebay_onnx"
    kinds = {one["name"]: one["data_type"] for one in config["input"]}
    assert kinds["fp16"] == "TYPE_FP16"
    assert kinds["bytes"] == "TYPE_STRING"
    with grpc.InferenceServerClient(f"127.0.0.1:{stack.grpc_port}") as client:
        same = client.get_model_metadata("detect", as_json=True)
    assert [one["name"] for one in same["inputs"]] == ["x"]


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "told"),
    [
        ("y", [1, 2], "FP32", "'summed' has no input 'y'. It has 'signal'"),
        ("signal", [4], "FP64", "signal must be of the datatype FP32, not 'FP64'"),
        ("signal", [2, 2], "FP32", r"signal must be of the shape [-1]"),
    ],
)
def test_what_a_file_does_not_take_is_refused_by_the_inputs_name(
    stack: Stack, name: str, shape: list[int], datatype: str, told: str
) -> None:
    array = np.ones(shape, np.float64 if datatype == "FP64" else np.float32)
    tensor = http.InferInput(name, shape, datatype).set_data_from_numpy(array)
    with (
        http.InferenceServerClient(stack.url.removeprefix("http://")) as client,
        pytest.raises(InferenceServerException) as caught,
    ):
        client.infer("summed", [tensor])
    assert told in caught.value.message()


def predicted(stack: Stack, model: str, given: dict[str, Any], status: int = 201) -> Any:
    body = {"version": model, "input": given}
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_S) as client:
        made = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
        assert made.status_code == status, made.text
        answer = made.json()
        if status != 201:
            return answer
        assert answer["status"] == "succeeded", answer
        assert client.get(f"/v1/predictions/{answer['id']}").json()["output"] == answer["output"]
    return answer["output"]


def test_predictions_take_and_give_nested_lists_and_objects(stack: Stack) -> None:
    lists = {
        name: [[item.decode() for item in line] for line in array]
        if name == "bytes"
        else array.tolist()
        for name, array in VALUES.items()
    }
    got = predicted(stack, "mirror", lists)
    assert got["int64_out"] == lists["int64"]
    assert got["bytes_out"] == lists["bytes"]
    assert np.array_equal(np.array(got["fp16_out"], np.float16), VALUES["fp16"])
    bits = np.array([[0x3F80, 0x4040]], np.uint16)
    raw = base64.b64encode(bits.tobytes()).decode()
    squared = predicted(stack, "squared", {"x": {"datatype": "BF16", "shape": [1, 2], "data": raw}})
    assert squared["y"]["datatype"] == "BF16"
    nine = np.frombuffer(base64.b64decode(squared["y"]["data"]), np.uint16)
    assert nine.tolist() == [0x3F80, 0x4110]
    assert predicted(stack, "summed", {"signal": [1.0, 2.0, 3.5]}) == {"total": 6.5}
    most = predicted(stack, "summed", {"signal": [3e38, 3e38]})["total"]
    assert np.isinf(np.frombuffer(base64.b64decode(most["data"]), "<f4"))
    given = {"name": "signal", "datatype": "FP32", "shape": [2], "data": [3e38, 3e38]}
    url = f"{stack.url}/v2/models/summed/infer"
    answer = httpx.post(url, json={"inputs": [given]}, timeout=PATIENCE_S)
    assert answer.status_code == 400
    assert "infinite numbers, which JSON can't tell" in answer.json()["error"]
    refused = predicted(stack, "summed", {"signal": [1.0], "noise": [1.0]}, status=422)
    assert "There is no input 'noise'" in refused["detail"]


def of_opencv(image: Any) -> Any:
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def rapidocr_of(part: str) -> dict[str, Any]:
    config = read_yaml(PACKAGE / "config.yaml")[part]
    return {**config, "model_path": str(PACKAGE / config["model_path"])}


def test_lines_are_found_upright_or_turned_as_the_package_does(stack: Stack) -> None:
    lines = [text_line(text, upside_down=turned) for text in LINES for turned in (False, True)]
    with contextlib.redirect_stdout(None):
        _, expected, _ = TextClassifier(rapidocr_of("Cls"))([of_opencv(line) for line in lines])
    files = ["data:image/png;base64," + base64.b64encode(encoded(line)).decode() for line in lines]
    got = predicted(stack, "turned", {"image": files, "top_k": 1})
    for (told,), (label, score) in zip(got, expected, strict=True):
        assert (told["label"], told["score"]) == (label, pytest.approx(float(score), abs=1e-3))
    assert [told["label"] for (told,) in got] == ["0", "180"] * len(LINES)


def test_images_go_in_as_files_in_base64_and_from_the_command_line(
    stack: Stack, tmp_path: Path
) -> None:
    data = encoded(text_line(LINES[0], upside_down=True))
    for item in (data, base64.b64encode(data)):
        tensor = http.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([item], np.object_))
        with http.InferenceServerClient(stack.url.removeprefix("http://")) as client:
            result = client.infer("turned", [tensor])
        assert result.as_numpy("labels").tolist() == [[b"180", b"0"]]
        assert result.as_numpy("scores").shape == (1, 2)
    both = predicted(stack, "turned", {"image": base64.b64encode(data).decode()})
    assert [one["label"] for one in both] == ["180", "0"]
    (tmp_path / "line.png").write_bytes(data)
    command = here_command(f"forebay predict turned {tmp_path / 'line.png'}", stack)
    assert '"180"' in run(["bash", "-euc", command], stack)
    for wrong, told in (
        ({"image": "http://169.254.169.254/a.png"}, "not a public address"),
        ({"image": "no base64!"}, "neither a data: URL nor base64"),
    ):
        assert told in predicted(stack, "turned", wrong, status=422)["detail"]


def here_command(text: str, stack: Stack) -> str:
    import sys

    models = stack.home.parent / "models.toml"
    prefix = f"FOREBAY_MODELS_FILE={models} "
    return prefix + text.replace("forebay", f"{sys.executable} -m forebay.cli", 1)


def test_an_image_that_is_none_is_that_rows_fault(stack: Stack) -> None:
    good = base64.b64encode(encoded(text_line(LINES[0]))).decode()
    body = {"version": "turned", "input": {"image": [good, base64.b64encode(b"no").decode()]}}
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_S) as client:
        made = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"}).json()
    assert made["status"] == "failed"
    assert "Row 1" in made["error"]
    assert "known format" in made["error"]


def test_the_detector_and_the_recogniser_take_any_size(stack: Stack) -> None:
    line = of_opencv(text_line(LINES[1]))
    height, width = 48, math.ceil(48 * line.shape[1] / line.shape[0])
    pixels = cv2.resize(line, (width, height)).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    scores = asked(stack, "grpc", "recognise", {"x": pixels[None]})("softmax_11.tmp_0")
    letters = ["", *characters(), " "]
    best = scores[0].argmax(-1)
    text = "".join(
        letters[index] for at, index in enumerate(best) if index and index != best[at - 1]
    )
    assert text.replace(" ", "") == LINES[1].replace(" ", "")
    page = np.full((2, 3, 96, 320), 1.0, np.float32)
    page[:, :, 24:72, : min(width, 320)] = pixels[:, :, :320]
    found = asked(stack, "http", "detect", {"x": page})("sigmoid_0.tmp_0")
    assert found.shape == (2, 1, 96, 320)
    assert found[0, 0, 40:56, 20:100].mean() > 0.5 > found[0, 0, :8].mean()


def characters() -> list[str]:
    import onnx

    model = onnx.load(str(PACKAGE / "models" / "ch_PP-OCRv4_rec_infer.onnx"))
    return next(p.value for p in model.metadata_props if p.key == "character").splitlines()
