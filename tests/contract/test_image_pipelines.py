"""From a folder to labels: those of transformers' image classification pipeline for the folder.

The models are tiny and of random weights; images are of every oddness, as files. Scores are within
1e-4.
"""

import base64
import struct
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

from forebay.build import pipeline
from forebay.build.pipeline import Built
from forebay.contract.errors import BuildFailed
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import Classes, Function, ImageRow, Options, Task
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.image_families import LABELS, save
from tests.fixtures.pictures import ODD

TOLERANCE = 1e-4
BUILT = ("vit", "resnet", "swin")
FILES = [make() for make in ODD.values()]


class Made(msgspec.Struct, frozen=True):
    """A source, and what serves the artifact built of it."""

    folder: Path
    backend: Backend
    built: Built


def spec_of(folder: Path, precision: Precision = Precision.FP32) -> ModelSpec:
    return ModelSpec(
        task=Task.IMAGE_CLASSIFICATION,
        backend=BackendName.ONNX,
        source=str(folder),
        precision=precision,
        threads=1,
        name="tiny",
    )


@pytest.fixture(scope="module", params=BUILT)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp(request.param)
    folder = save(request.param, home / "source")
    store = ArtifactStore(home)
    built = pipeline.build(spec_of(folder), store)
    backend = load(spec_of(folder), store)
    backend.warm()
    return Made(folder, backend, built)


def reference(folder: Path) -> Any:
    from transformers import pipeline as of_transformers

    library: Any = of_transformers
    return library("image-classification", model=str(folder), device="cpu")


def told(output: Any) -> list[dict[str, Any]]:
    assert isinstance(output, Classes)
    scores = struct.unpack(f"<{len(output.labels)}f", output.scores)
    return [{"label": a, "score": b} for a, b in zip(output.labels, scores, strict=True)]


def approximately(expected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "score": pytest.approx(float(one["score"]), abs=TOLERANCE)} for one in expected]


@pytest.mark.slow
class TestEveryFamily:
    def test_labels_images_as_the_pipeline_does(self, made: Made) -> None:
        expected = reference(made.folder)
        best = set()
        for function, files in ((None, FILES), *((one, FILES[:3]) for one in Function)):
            options = Options(top_k=5, function=function)
            rows = [ImageRow(data) for data in files]
            prepared = made.backend.prepare(rows, truncate=False, options=options)
            ready = [row for row in prepared if isinstance(row, PreparedRow)]
            assert len(ready) == len(rows)
            asked = {} if function is None else {"function_to_apply": function.value}
            for data, output in zip(files, made.backend.run(ready), strict=True):
                like = expected(base64.b64encode(data).decode(), **asked)
                assert told(output) == approximately(like)
                best.add(like[0]["label"])
        assert len(best) > 1  # a model that says the same of all images shows nothing

    def test_says_the_same_of_an_image_alone_as_in_company(self, made: Made) -> None:
        options = Options(top_k=0)
        prepared = made.backend.prepare(
            [ImageRow(data) for data in FILES[:6]], truncate=False, options=options
        )
        ready = [row for row in prepared if isinstance(row, PreparedRow)]
        for row, output in zip(ready, made.backend.run(ready), strict=True):
            (alone,) = made.backend.run([row])
            assert told(alone) == approximately(told(output))

    def test_is_measured_against_pytorch(self, made: Made) -> None:
        report = made.built.report
        assert report.agreement is not None
        assert report.agreement.rows == 24
        assert report.agreement.same == 1.0
        assert report.agreement.max_difference < TOLERANCE
        head = made.built.artifact.manifest.head
        assert head is not None
        assert (head.labels, head.function) == (LABELS, Function.SOFTMAX)


@pytest.mark.slow
@pytest.mark.parametrize("made", ["resnet"], indirect=True)
def test_the_same_folder_gives_the_same_digest(made: Made, tmp_path: Path) -> None:
    again = pipeline.build(spec_of(made.folder), ArtifactStore(tmp_path)).artifact
    assert again.manifest.digest == made.built.artifact.manifest.digest


@pytest.mark.slow
@pytest.mark.parametrize("made", ["vit"], indirect=True)
def test_eight_bits_give_the_same_labels_and_the_same_scores_in_company(
    made: Made, tmp_path: Path
) -> None:
    spec, store = spec_of(made.folder, Precision.INT8), ArtifactStore(tmp_path)
    built = pipeline.build(spec, store)
    agreement = built.report.agreement
    assert agreement is not None
    assert agreement.same == 1.0
    assert 0 < agreement.mean_difference < 0.01
    assert agreement.variance == 0
    assert built.report.bytes < made.built.report.bytes
    operators = {
        node.op_type for node in onnx.load(built.artifact.folder / "model.onnx").graph.node
    }
    assert "MatMulIntegerToFloat" in operators
    backend = load(spec, store)
    rows = backend.prepare(
        [ImageRow(file) for file in FILES], truncate=False, options=Options(top_k=0)
    )
    ready = [row for row in rows if isinstance(row, PreparedRow)]
    for row, output in zip(ready, backend.run(ready), strict=True):
        (alone,) = backend.run([row])
        (full,) = made.backend.run([row])
        assert told(alone) == told(output)
        scores, exact = ({one["label"]: one["score"] for one in told(x)} for x in (output, full))
        assert scores == {label: pytest.approx(score, abs=0.02) for label, score in exact.items()}
    again = pipeline.build(spec, ArtifactStore(tmp_path / "again")).artifact.manifest.digest
    assert again == built.artifact.manifest.digest


def test_eight_bits_are_refused_where_there_is_little_to_win(tmp_path: Path) -> None:
    folder = save("resnet", tmp_path / "source")
    with pytest.raises(BuildFailed, match=r"only \d+% of the weights in .*source are those of"):
        pipeline.build(spec_of(folder, Precision.INT8), ArtifactStore(tmp_path / "home"))


def test_what_is_no_image_classifier_is_refused_with_the_reason(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "home")
    folder = save("vit", tmp_path / "source")
    with pytest.raises(BuildFailed, match='"fp32"'):
        pipeline.build(spec_of(folder, Precision.FP16), store)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("ViTForImageClass", "ViTForMaskedImage"))
    with pytest.raises(BuildFailed, match="takes a model made ForImageClassification"):
        pipeline.build(spec_of(folder), store)
    (folder / "config.json").write_text(config)
    settings = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").write_text(settings.replace("32", "40"))
    with pytest.raises(BuildFailed, match="does not take images of 40 by 40"):
        pipeline.build(spec_of(folder), store)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BuildFailed, match=r"preprocessor_config\.json is missing"):
        pipeline.build(spec_of(folder), store)
