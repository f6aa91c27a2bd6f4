"""From an ONNX file to an artifact, and all that can be wrong with one."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from forebay.build import pipeline
from forebay.build.onnx_file import read
from forebay.cli.report import summary
from forebay.contract.errors import ArtifactError, BackendFailed, BuildFailed, InvalidInput
from forebay.contract.image import Fit, ImageTable
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import ImageRow, NamedTensor, Row, Task, Tensors, TensorsRow
from forebay.contract.tensors import TensorSpec
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures import onnx_models
from tests.fixtures.pictures import encoded
from tests.unit.test_cli import invoke

OCR = "onnx:package:rapidocr_onnxruntime/models"


def spec_of(source: Path | str, task: Task = Task.TENSORS, **fields: Any) -> ModelSpec:
    return ModelSpec(
        task=task,
        backend=BackendName.ONNX,
        source=f"onnx:{source}" if isinstance(source, Path) else source,
        precision=Precision.FP32,
        threads=1,
        name="tiny",
        **fields,
    )


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "home")


def served(spec: ModelSpec, store: ArtifactStore) -> Backend:
    pipeline.build(spec, store)
    backend = load(spec, store)
    backend.warm()
    return backend


def row(**arrays: Any) -> TensorsRow:
    return TensorsRow(
        tuple(
            NamedTensor(name, "FP32", np.asarray(a).shape, np.asarray(a, "<f4").tobytes())
            for name, a in arrays.items()
        )
    )


def ready(backend: Backend, *rows: Row) -> list[PreparedRow]:
    prepared = backend.prepare(rows, truncate=False)
    assert all(isinstance(one, PreparedRow) for one in prepared), prepared
    return [one for one in prepared if isinstance(one, PreparedRow)]


def values(output: Any) -> Any:
    assert isinstance(output, Tensors)
    (one,) = output.tensors
    return np.frombuffer(one.data, "<f4").reshape(one.shape)


def test_the_artifact_has_the_files_bytes_and_its_tensors(
    tmp_path: Path, store: ArtifactStore
) -> None:
    path = onnx_models.scaled(tmp_path / "scale.onnx")
    built = pipeline.build(spec_of(path), store)
    manifest = built.artifact.manifest
    assert (built.artifact.folder / "model.onnx").read_bytes() == path.read_bytes()
    signature = manifest.signature
    assert signature is not None
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, -1)),)
    assert signature.outputs == (TensorSpec("y", "FP32", (-1, -1)),)
    assert signature.batched
    assert "the file as it is" in summary(built.artifact.manifest, built.report)
    assert "rows are batched" in summary(built.artifact.manifest, built.report)
    with pytest.raises(ArtifactError, match="no text model"):
        _ = manifest.text


def test_the_same_file_has_the_same_digest_wherever_it_lies(
    tmp_path: Path, store: ArtifactStore
) -> None:
    path = onnx_models.scaled(tmp_path / "a.onnx")
    first = pipeline.build(spec_of(path), store).artifact.manifest.digest
    (tmp_path / "b").mkdir()
    moved = shutil.copy(path, tmp_path / "b" / "other.onnx")
    relative = spec_of("onnx:b/other.onnx", folder=str(tmp_path))
    assert pipeline.build(relative, store).artifact.manifest.digest == first
    onnx_models.scaled(Path(moved), factor=4.0)
    assert pipeline.build(relative, store).artifact.manifest.digest != first


def test_weights_beside_the_file_go_with_it(tmp_path: Path, store: ArtifactStore) -> None:
    path = onnx_models.scaled(
        tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    backend = served(spec_of(path), store)
    assert {file.path for file in store.open("tiny").manifest.files} == {"model.onnx", "m.bin"}
    (got,) = backend.run(ready(backend, row(x=[[1.0, 2.0]])))
    assert np.array_equal(values(got), [[3.0, 6.0]])
    (tmp_path / "m.bin").write_bytes(b"short")
    with pytest.raises(BuildFailed, match=r"m\.bin is cut short at 5 bytes, and m\.onnx keeps"):
        pipeline.build(spec_of(path), store)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(BuildFailed, match=r"m\.bin is missing, and m\.onnx keeps weights in it"):
        pipeline.build(spec_of(path), store)
    assert load(spec_of(path), store).version == backend.version  # what was built goes on


def test_rows_of_one_shape_share_a_pass_and_others_do_not_disturb_them(
    tmp_path: Path, store: ArtifactStore
) -> None:
    backend = served(spec_of(onnx_models.scaled(tmp_path / "m.onnx")), store)
    given = [[[1.0, 2.0]], [[5.0]], [[3.0, 4.0], [7.0, 8.0]], [[9.0]]]
    rows = ready(backend, *(row(x=one) for one in given))
    assert [one.length for one in rows] == [2, 1, 4, 1]
    for one, got in zip(given, backend.run(rows), strict=True):
        assert np.array_equal(values(got), 3 * np.asarray(one))


@pytest.mark.parametrize("make", [onnx_models.centred, onnx_models.summed])
def test_a_first_axis_that_is_no_axis_of_rows_is_found_out(
    tmp_path: Path, store: ArtifactStore, make: Any
) -> None:
    backend = served(spec_of(make(tmp_path / "m.onnx")), store)
    signature = store.open("tiny").manifest.signature
    assert signature is not None
    assert not signature.batched
    name, shape = signature.inputs[0].name, (3, 2) if make is onnx_models.centred else (3,)
    alike = [row(**{name: np.arange(np.prod(shape)).reshape(shape) * step}) for step in (1, 2)]
    alone = [values(backend.run(ready(backend, one))[0]) for one in alike]
    together = [values(one) for one in backend.run(ready(backend, *alike))]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_shapes_that_can_not_be_guessed_may_be_said(tmp_path: Path, store: ArtifactStore) -> None:
    path = onnx_models.picky(tmp_path / "m.onnx")
    with pytest.raises(BuildFailed, match=r"fails on all that was tried: .* `sample = \{ x = "):
        pipeline.build(spec_of(path), store)
    assert served(spec_of(path, sample={"x": (1, 11)}), store).version
    for wrong in ({"y": (1, 7)}, {"x": (7,)}, {"x": (1, 7), "y": (1,)}):
        with pytest.raises(BuildFailed, match=r"\[models\.tiny\] must say .* x = \[-1, -1\]"):
            pipeline.build(spec_of(path, sample=wrong), store)


def damaged(path: Path, how: str) -> Path:
    onnx_models.scaled(path)
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-40])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no model at all, only words " * 9)
        case "pickle":
            path.write_bytes(pickle.dumps({"weights": [1.0]}))
        case "archive":
            path.write_bytes(b"PK\x03\x04" + bytes(60))
        case "invalid":
            model = onnx.load(path)
            model.graph.node[1].input[0] = "nowhere"
            path.write_bytes(model.SerializeToString())
        case "own operator":
            onnx_models.of_own_operator(path)
        case "gone":
            path.unlink()
    return path


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut", "is no ONNX file, or is cut short|Fetch or copy it again|is not valid ONNX"),
        ("empty", "holds no ONNX graph, or is cut short"),
        ("text", "is no ONNX file, or is cut short"),
        ("pickle", "a pickle or an archive.*torch.onnx.export"),
        ("archive", "a pickle or an archive.*torch.onnx.export"),
        ("invalid", "is not valid ONNX: .*Export the model again"),
        ("own operator", r"ONNX Runtime can't run .*own \(Conjure\), which need a library"),
        ("gone", "is not there: .* is no file"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name(
    tmp_path: Path, store: ArtifactStore, how: str, told: str
) -> None:
    path = damaged(tmp_path / "m.onnx", how)
    with pytest.raises(BuildFailed, match=told) as caught:
        pipeline.build(spec_of(path), store)
    assert str(path) in caught.value.message
    with pytest.raises(ArtifactError):
        store.current("tiny")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("onnx:package:no_such_package/m.onnx", "'no_such_package', .* is not installed"),
        ("onnx:package:json/../secret.onnx", "write `onnx:package:NAME/FILE.onnx`"),
        ("onnx:package:json/none.onnx", "is no file"),
    ],
)
def test_a_package_is_looked_up(store: ArtifactStore, source: str, told: str) -> None:
    with pytest.raises(BuildFailed, match=told):
        pipeline.build(spec_of(source), store)


def test_weights_outside_of_the_files_folder_are_refused(tmp_path: Path) -> None:
    path = onnx_models.scaled(
        tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../m.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BuildFailed, match="they must be in a file of another name in its own"):
        read(f"onnx:{path}", base=tmp_path, threads=1)


def test_eight_bits_are_not_made_of_a_file(tmp_path: Path, store: ArtifactStore) -> None:
    import msgspec

    spec = spec_of(onnx_models.scaled(tmp_path / "m.onnx"))
    with pytest.raises(BuildFailed, match='say `precision = "fp32"`'):
        pipeline.build(msgspec.structs.replace(spec, precision=Precision.INT8), store)


class TestImagesOfAFile:
    TABLE = ImageTable(height=48, width=192, fit=Fit.HEIGHT, labels=("0", "180"))
    SOURCE = f"{OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx"

    def test_a_table_says_how_they_are_fed(self, store: ArtifactStore) -> None:
        spec = spec_of(self.SOURCE, Task.IMAGE_CLASSIFICATION, image=self.TABLE)
        backend = served(spec, store)
        manifest = store.open("tiny").manifest
        assert manifest.image == self.TABLE.form
        assert manifest.head is not None
        assert manifest.head.labels == ("0", "180")
        refused, ready_ = backend.prepare(
            [ImageRow(b"no image"), ImageRow(encoded(Image.new("RGB", (90, 30))))], truncate=False
        )
        assert isinstance(refused, InvalidInput)
        assert refused.row == 0
        assert isinstance(ready_, PreparedRow)
        assert len(backend.run([ready_])) == 1
        backend.close()
        with pytest.raises(BackendFailed, match="closed"):
            backend.run([ready_])

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"labels": ("a", "b", "c")}, "names 3 labels: one output must have a score for each"),
            ({"channels": "gray"}, r"becomes one tensor of \[1, 1, 48, 192\]"),
            ({"layout": "nhwc"}, r"becomes one tensor of \[1, 48, 192, 3\]"),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused(
        self, store: ArtifactStore, fields: dict[str, Any], told: str
    ) -> None:
        import msgspec

        table = msgspec.convert({**msgspec.structs.asdict(self.TABLE), **fields}, ImageTable)
        spec = spec_of(self.SOURCE, Task.IMAGE_CLASSIFICATION, image=table)
        with pytest.raises(BuildFailed, match=told):
            pipeline.build(spec, store)

    def test_a_manifest_that_names_no_labels_does_not_load(self, store: ArtifactStore) -> None:
        import msgspec

        from forebay.inference.backends.images import ImageModel
        from forebay.inference.backends.tensors import TensorsModel

        spec = spec_of(self.SOURCE, Task.IMAGE_CLASSIFICATION, image=self.TABLE)
        artifact = pipeline.build(spec, store).artifact
        for field, model in (("head", ImageModel), ("signature", TensorsModel)):
            manifest = msgspec.structs.replace(artifact.manifest, **{field: None})
            with pytest.raises(ArtifactError, match="run `forebay models build tiny`"):
                model(artifact.folder, manifest, threads=1)
        head = msgspec.structs.replace(artifact.manifest.head, labels=("one",))  # type: ignore[type-var]
        other = msgspec.structs.replace(artifact.manifest, head=head)
        with pytest.raises(ArtifactError, match="doesn't do what its manifest says"):
            ImageModel(artifact.folder, other, threads=1).warm()


def test_what_can_be_built_of_all_is_and_what_cant_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_models.summed(tmp_path / "summed.onnx")
    (tmp_path / "models.toml").write_text(
        '[models.gone]\ntask = "embedding"\nbackend = "onnx"\nsource = "not/there"\n'
        '[models.summed]\ntask = "tensors"\nbackend = "onnx"\nsource = "onnx:summed.onnx"\n'
    )
    monkeypatch.chdir("/")
    words = ("--models-file", str(tmp_path / "models.toml"), "--home", str(tmp_path / "home"))
    done = invoke("models", "build", "--all", *words)
    assert str(done.exception) == "Not built: gone. The others were."
    said = done.output + capsys.readouterr().err
    assert f"{tmp_path}/not/there is no folder" in said
    assert "drift summed --set-reference` takes what it did" in said
    assert "give rows of your own" not in said
    assert ArtifactStore(tmp_path / "home").open("summed")
