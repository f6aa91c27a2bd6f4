"""From a TorchScript file or a SavedModel to an artifact, and all that can be wrong with one."""

import io
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forebay.build import pipeline
from forebay.build.conversion import process, torchscript
from forebay.build.conversion.process import Order
from forebay.cli.report import summary
from forebay.contract.errors import BuildFailed
from forebay.contract.image import ImageTable
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.rows import (
    Classes,
    ImageRow,
    NamedTensor,
    Output,
    Row,
    Task,
    Tensors,
    TensorsRow,
)
from forebay.contract.signature import TORCHSCRIPT, SignatureTable
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures import saved_models, torchscripts

needs_tensorflow = pytest.mark.skipif(
    not saved_models.THERE, reason="TensorFlow is not installed: pip install 'forebay[tensorflow]'"
)


def spec_of(source: str, task: Task = Task.TENSORS, **fields: Any) -> ModelSpec:
    spec = ModelSpec(
        task=task,
        backend=BackendName.ONNX,
        source=source,
        precision=Precision.FP32,
        threads=1,
        **fields,
    )
    return checked(spec, "tiny")


def script_spec(path: Path, inputs: dict[str, str], *outputs: str, **fields: Any) -> ModelSpec:
    return spec_of(f"{TORCHSCRIPT}{path}", signature=SignatureTable(inputs, outputs), **fields)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "home")


def served(spec: ModelSpec, store: ArtifactStore) -> Backend:
    backend = load(spec, store)
    backend.warm()
    return backend


def answers(backend: Backend, *rows: Row) -> list[Output]:
    prepared = backend.prepare(rows, truncate=False)
    assert all(isinstance(one, PreparedRow) for one in prepared), prepared
    return backend.run([one for one in prepared if isinstance(one, PreparedRow)])


def row(**arrays: Any) -> TensorsRow:
    kinds = {"float32": "FP32", "int64": "INT64"}
    return TensorsRow(
        tuple(
            NamedTensor(name, kinds[str(array.dtype)], array.shape, array.tobytes())
            for name, array in arrays.items()
        )
    )


def arrays(output: Output) -> dict[str, Any]:
    assert isinstance(output, Tensors)
    return {
        one.name: np.frombuffer(one.data, "<i8" if one.datatype == "INT64" else "<f4").reshape(
            one.shape
        )
        for one in output.tensors
    }


def test_a_script_keeps_its_branches_and_its_loops(tmp_path: Path, store: ArtifactStore) -> None:
    module = torchscripts.Steps()
    spec = script_spec(torchscripts.saved(module, tmp_path / "m.pt"), {"x": "FP32[rows, 6]"}, "y")
    built = pipeline.build(spec, store)
    conversion = built.report.conversion
    assert conversion is not None
    assert conversion.runs == 3
    assert conversion.difference < 1e-5
    assert f"converted by torch {torch.__version__}" in summary(
        built.artifact.manifest, built.report
    )
    signature = built.artifact.manifest.signature
    assert signature is not None
    # What the first row says all rows do, so they are none that could share a pass.
    assert not signature.batched
    backend = served(spec, store)
    random = np.random.default_rng(3)
    for rows in (1, 2, 5):
        for shift in (-1.0, 1.0):
            x = (random.standard_normal((rows, 6)) + shift).astype(np.float32)
            (output,) = answers(backend, row(x=x))
            with torch.no_grad():
                expected = module(torch.from_numpy(x)).numpy()
            assert np.allclose(arrays(output)["y"], expected, atol=1e-5)


def test_several_inputs_share_axes_and_the_same_source_has_the_same_digest(
    tmp_path: Path, store: ArtifactStore
) -> None:
    module = torchscripts.Scores()
    inputs = {"ids": "INT64[rows, tokens]", "mask": "FP32[rows, tokens]"}
    path = torchscripts.saved(module, tmp_path / "m.pt")
    spec = script_spec(path, inputs, "pooled", "tokens")
    digest = pipeline.build(spec, store).artifact.manifest.digest
    signature = store.open("tiny").manifest.signature
    assert signature is not None
    assert signature.batched
    assert [one.shape for one in signature.outputs] == [(-1, 4), (-1, -1, 4)]
    backend = served(spec, store)
    rows = [np.array([[3, 4, 5]]), np.array([[7, 8]]), np.array([[9, 1, 2]])]
    found = answers(backend, *(row(ids=ids, mask=np.ones(ids.shape, np.float32)) for ids in rows))
    for ids, output in zip(rows, found, strict=True):
        with torch.no_grad():
            pooled, tokens = module(torch.from_numpy(ids), torch.ones(ids.shape))
        assert np.allclose(arrays(output)["pooled"], pooled.numpy(), atol=1e-5)
        assert np.allclose(arrays(output)["tokens"], tokens.numpy(), atol=1e-5)

    (tmp_path / "elsewhere").mkdir()
    shutil.copy(path, tmp_path / "elsewhere" / "other.pt")
    moved = f"{TORCHSCRIPT}elsewhere/other.pt"
    again = spec_of(moved, signature=spec.signature, folder=str(tmp_path))
    assert pipeline.build(again, store).artifact.manifest.digest == digest


def test_a_script_that_classifies_images_needs_no_signature(
    tmp_path: Path, store: ArtifactStore
) -> None:
    module = torchscripts.Pictures()
    spec = spec_of(
        f"{TORCHSCRIPT}{torchscripts.saved(module, tmp_path / 'm.pt')}",
        Task.IMAGE_CLASSIFICATION,
        image=ImageTable(height=16, width=24, labels=("left", "right")),
    )
    pipeline.build(spec, store)
    file = io.BytesIO()
    picture = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(picture).save(file, "PNG")
    (output,) = answers(served(spec, store), ImageRow(file.getvalue()))
    pixels = torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(255))
    with torch.no_grad():
        (scores,) = torch.softmax(module(pixels), -1).numpy()
    assert isinstance(output, Classes)
    told = dict(zip(output.labels, np.frombuffer(output.scores, "<f4"), strict=True))
    assert told[("left", "right")[int(scores.argmax())]] == pytest.approx(scores.max(), abs=1e-5)


def archive_of(path: Path, how: str) -> Path:
    """A file that looks like TorchScript, and is none that can be taken."""
    torchscripts.saved(torchscripts.Writes() if how == "files" else torchscripts.Scores(), path)
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-300])
        case "bent":
            weights = torchscripts.Scores().table.weight.detach().numpy().tobytes()
            data = path.read_bytes()
            assert weights in data
            path.write_bytes(data.replace(weights, bytes(len(weights))))
        case "text":
            path.write_text("no model")
        case "pickle":
            path.write_bytes(pickle.dumps([1]))
        case "checkpoint":
            torch.save({"weights": torch.ones(3)}, path)
        case "exported":
            program = torch.export.export(torchscripts.Fixed(), (torch.ones(4, 2),))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(program, path)
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a/b.txt", "c")
        case "gone":
            path.unlink()
    return path


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut", "m.pt is cut short or damaged: .*Fetch or copy it again"),
        ("bent", "m.pt is damaged in .*data/.*fetch or copy it again"),
        ("text", "m.pt is no TorchScript archive.*torch.jit.script"),
        ("pickle", "m.pt is a checkpoint of `torch.save`, a pickle, which can run any code"),
        ("checkpoint", "m.pt is a checkpoint of `torch.save`, a pickle, which can run any code"),
        ("exported", r"m.pt is a program of `torch.export`.*torch.export.load\(\"m.pt\"\)"),
        ("zip", "m.pt is a zip archive without TorchScript in it"),
        ("files", "m.pt names 'from_file' in .*reads or writes files"),
        ("gone", "m.pt is not there"),
    ],
)
def test_a_file_that_is_no_script_is_refused_before_it_is_loaded(
    tmp_path: Path, store: ArtifactStore, how: str, told: str
) -> None:
    path = archive_of(tmp_path / "m.pt", how)
    with pytest.raises(BuildFailed, match=told):
        pipeline.build(script_spec(path, {"x": "FP32[rows, 6]"}), store)


@pytest.mark.parametrize(
    ("make", "inputs", "fields", "told"),
    [
        (torchscripts.Conjures, {"x": "FP32[2]"}, {}, "own::conjure. It has an operator of its"),
        (torchscripts.Unknown, {"x": "FP32[n, m]"}, {}, "linalg_eigvalsh' to ONNX .*Take what it"),
        (torchscripts.Named, {"x": "FP32[2]"}, {}, "gives a dict, and only tensors"),
        (torchscripts.Scores, {"x": "FP32[2]"}, {}, r"takes 2 arguments, and \[models.tiny.sig"),
        (torchscripts.Steps, {"x": "FP32[rows, 7]"}, {}, r"fails on all that was tried of x = "),
        (torchscripts.Steps, {"x": "FP32[rows, n]"}, {}, r"fails on all that was tried of x = "),
        (
            torchscripts.Steps,
            {"x": "FP32[rows, n]"},
            {"sample": {"x": (2, 6)}},
            r"m.pt takes no other size of 'n' than 6.*say 6 instead of the name",
        ),
        (
            torchscripts.Steps,
            {"x": "FP32[rows, 6]"},
            {"sample": {"x": (2, 7)}},
            r"`sample` in \[models.tiny\] must say a shape for each input",
        ),
        (
            torchscripts.Steps,
            {"x": "FP32[rows, 6]"},
            {"outputs": ("a", "b")},
            "gives 1 tensors, and .* names 2 outputs",
        ),
    ],
)
def test_a_script_that_can_not_be_converted_says_why(
    tmp_path: Path, make: Any, inputs: dict[str, str], fields: dict[str, Any], told: str
) -> None:
    """In this process, where the operator `own::conjure` is gone once its library is."""
    library: Any = torchscripts.own_operator()
    path = torchscripts.saved(make(), tmp_path / "m.pt")
    library._destroy()
    order = Order(
        TORCHSCRIPT, str(path), "models.tiny", inputs=SignatureTable(inputs).tensors, **fields
    )
    with pytest.raises(BuildFailed, match=told):
        torchscript.convert(order, tmp_path)


def test_a_conversion_that_dies_says_how(tmp_path: Path) -> None:
    with pytest.raises(
        BuildFailed, match=r"converts /nowhere/m\.pt ended with the exit code 1: .*"
    ):
        process.run(Order(TORCHSCRIPT, "/nowhere/m.pt", "models.tiny"), tmp_path / "not" / "there")


def test_a_folder_that_is_no_saved_model_is_refused_by_name(
    tmp_path: Path, store: ArtifactStore
) -> None:
    folder = tmp_path / "saved"
    spec = spec_of(f"savedmodel:{folder}")
    steps: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: None, "saved is not there: it is no folder"),
        (folder.mkdir, r"saved_model\.pb is missing: save it with `model\.export"),
        ((folder / "saved_model.pb").touch, r"saved_model\.pb is empty: copy"),
    )
    for make, told in steps:
        make()
        with pytest.raises(BuildFailed, match=told):
            pipeline.build(spec, store)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "variables").mkdir()
    shard = folder / "variables" / "variables.data-00000-of-00002"
    shard.touch()
    with pytest.raises(BuildFailed, match=r"variables\.index is missing"):
        pipeline.build(spec, store)
    (folder / "variables" / "variables.index").touch()
    with pytest.raises(BuildFailed, match="has 1 of 2 files of weights"):
        pipeline.build(spec, store)
    keras = tmp_path / "m.keras"
    keras.touch()
    with pytest.raises(BuildFailed, match=r"m\.keras is a file of Keras, and no SavedModel"):
        pipeline.build(spec_of(f"savedmodel:{keras}"), store)


@pytest.mark.skipif(saved_models.THERE, reason="TensorFlow is installed")
def test_without_tensorflow_it_is_said_how_to_install_it(
    tmp_path: Path, store: ArtifactStore
) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(BuildFailed, match=r"needs tensorflow.*pip install 'forebay\[tensorflow\]'"):
        pipeline.build(spec_of(f"savedmodel:{tmp_path}"), store)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_models.made(tmp_path_factory.mktemp("saved"))


@needs_tensorflow
def test_a_saved_model_is_served_under_its_own_names(saved: Path, store: ArtifactStore) -> None:
    spec = spec_of(f"savedmodel:{saved / 'scored'}")
    built = pipeline.build(spec, store)
    assert built.report.conversion is not None
    assert built.report.conversion.by.startswith("tensorflow")
    signature = built.artifact.manifest.signature
    assert signature is not None
    assert signature.batched
    (output,) = answers(served(spec, store), row(x=np.full((2, 6), 0.5, np.float32)))
    told = arrays(output)
    assert told["scores"].shape == (2, 4)
    assert np.allclose(told["scores"].sum(-1), 1, atol=1e-5)
    assert (told["scores"].argmax(-1) == told["best"]).all()
    again = pipeline.build(spec, store).artifact.manifest.digest
    assert again == built.artifact.manifest.digest
    assert "tensorflow" not in sys.modules


@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("reads", r"saved_model\.pb has the operator ReadFile, which reads or writes files"),
        ("decomposed", "decomposed has operators that ONNX has nothing for: Svd"),
        ("several", "several has no signature 'serving_default'; it has 'one', 'other'"),
        ("cut", r"saved_model\.pb is cut short or damaged|can't be loaded"),
    ],
)
def test_a_saved_model_that_can_not_be_converted_says_why(
    saved: Path, tmp_path: Path, store: ArtifactStore, name: str, told: str
) -> None:
    folder = saved / name
    if name == "cut":
        folder = shutil.copytree(saved / "scored", tmp_path / "cut")
        whole = (folder / "saved_model.pb").read_bytes()
        (folder / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BuildFailed, match=told):
        pipeline.build(spec_of(f"savedmodel:{folder}"), store)


@needs_tensorflow
def test_texts_go_through_a_table(saved: Path, store: ArtifactStore) -> None:
    spec = spec_of(f"savedmodel:{saved / 'looked'}")
    pipeline.build(spec, store)
    words = NamedTensor(
        "text", "BYTES", (3,), b"".join(b"\1\0\0\0" + one for one in (b"b", b"a", b"x"))
    )
    (output,) = answers(served(spec, store), TensorsRow((words,)))
    assert arrays(output)["id"].tolist() == [2, 1, 0]
