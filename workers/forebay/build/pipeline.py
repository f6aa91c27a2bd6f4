"""The steps of a build, in order, and the bar its result must reach."""

import importlib.metadata
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import (
    Accuracy,
    Agreement,
    BuildReport,
    Head,
    Manifest,
    Speed,
    TextLimits,
    Versions,
)
from forebay.contract.model import UNQUANTIZED, ModelSpec, Precision
from forebay.contract.rows import Task
from forebay.storage.artifacts import Artifact, ArtifactStore, describe

if TYPE_CHECKING:
    from onnx import ModelProto
    from tokenizers import Tokenizer

    from forebay.build.encoder import Encoder, Row, Vectors

MIN_MEAN_COSINE = 0.995
MIN_INVARIANCE = 0.9999

MIN_SAME = 0.97
MAX_MEAN_DIFFERENCE = 0.02
MAX_VARIANCE = 0.001

STEPS = ("source", "export", "calibrate", "quantize", "evaluate", "publish")

Progress = Callable[[str, float], None]
"""Told the step (one of `STEPS`) and the share of it that is done, 0..1."""

_TOKENIZER = "tokenizer.json"
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "tokenizers", "torch",
              "transformers")  # fmt: skip


class Built(msgspec.Struct, frozen=True):
    """What a build gives."""

    artifact: Artifact
    report: BuildReport


def _unheard(step: str, fraction: float) -> None:
    """Nobody listens."""


def build(spec: ModelSpec, store: ArtifactStore, *, progress: Progress = _unheard) -> Built:
    """Turn a model's source into an artifact and make it the current one.

    The same source and library versions give the same digest.

    Args:
        spec: the model, of any task but `echo` and `python`.
        store: where to publish.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed, a library of the `build` extra is missing, or the result is
            under the bar. What was published before stays current.
    """
    if spec.task in (Task.ECHO, Task.PYTHON, Task.PIPELINE):
        raise BuildFailed(f"{spec.name!r} has the task {spec.task.value!r}: nothing to build.")
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise BuildFailed(
            f"Building needs {', '.join(missing)}: run `pip install 'forebay[build]'`."
        )
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="forebay-build-") as folder:
            draft = _make(spec, Path(folder), progress)
            if draft.measured is not None:
                check(spec.name, draft.measured)
            progress("publish", 0.0)
            report = draft.report(seconds=time.perf_counter() - started)
            artifact = store.publish(draft.folder, draft.manifest, report=report)
    except OSError as error:
        raise BuildFailed(f"Building {spec.name!r} failed: {error}.") from error
    progress("publish", 1.0)
    return Built(artifact, report)


def check(model: str, measured: Accuracy | Agreement) -> None:
    """Hold a result against the bar.

    Raises:
        BuildFailed: it is under it; the message says by which measure.
    """
    if isinstance(measured, Accuracy):
        _check_accuracy(model, measured)
    else:
        _check_agreement(model, measured)


def _check_accuracy(model: str, accuracy: Accuracy) -> None:
    for measure, value, bar in (
        ("mean cosine to FP32", accuracy.mean_cosine, MIN_MEAN_COSINE),
        ("batch invariance", accuracy.invariance, MIN_INVARIANCE),
    ):
        if not value >= bar:
            told = f"{measure} on {accuracy.texts} texts is {value:.5f}, and at least {bar}"
            raise _under(model, told)


def _check_agreement(model: str, agreement: Agreement) -> None:
    if not agreement.same >= MIN_SAME:
        raise _under(
            model,
            f"agreement with FP32 on {agreement.rows} rows is {agreement.same:.5f}, and at least "
            f"{MIN_SAME}",
        )
    for measure, value, bar in (
        ("mean difference to FP32", agreement.mean_difference, MAX_MEAN_DIFFERENCE),
        ("largest difference between a row alone and in company", agreement.variance, MAX_VARIANCE),
    ):
        if not value <= bar:
            told = f"{measure} on {agreement.rows} rows is {value:.5f}, and at most {bar}"
            raise _under(model, told)


def _under(model: str, told: str) -> BuildFailed:
    return BuildFailed(
        f"The build of {model!r} is not published: its {told} is asked. "
        'Try `precision = "fp32"` for this model.'
    )


class _Recipe(Protocol):
    """What the build of one kind of model does its own way. Also a `calibrate.Judge`."""

    limits: TextLimits
    tokenizer: "Tokenizer"

    @property
    def output(self) -> str: ...
    @property
    def aim(self) -> float: ...
    @property
    def head(self) -> Head | None: ...
    def export(self, out: Path) -> "ModelProto": ...
    def rows(self, texts: Sequence[str]) -> "list[Row]": ...
    def values(self, encoder: "Encoder", rows: "Sequence[Row]") -> "Vectors": ...
    def closeness(self, expected: "Vectors", got: "Vectors") -> float: ...
    def measured(
        self, reference: "Encoder", candidate: "Encoder", rows: "Sequence[Row]"
    ) -> Accuracy | Agreement: ...


class _Draft(msgspec.Struct, frozen=True):
    """An artifact that is made and measured, but not published."""

    folder: Path
    manifest: Manifest
    measured: Accuracy | Agreement | None
    speed: Speed
    fp32_bytes: int
    smoothing: float
    kept_fp32: tuple[str, ...]

    def report(self, *, seconds: float) -> BuildReport:
        return BuildReport(
            accuracy=self.measured if isinstance(self.measured, Accuracy) else None,
            agreement=self.measured if isinstance(self.measured, Agreement) else None,
            speed=self.speed,
            fp32_bytes=self.fp32_bytes,
            bytes=sum(file.bytes for file in self.manifest.files),
            smoothing=self.smoothing,
            kept_fp32=self.kept_fp32,
            seconds=round(seconds, 1),
        )


def _make(spec: ModelSpec, work: Path, progress: Progress) -> _Draft:
    # Here, because what only reads this module (the command line) has not torch's two seconds.
    from forebay.build import calibrate, evaluate, graph, quantize, source, texts
    from forebay.build.encoder import Encoder

    if spec.task in UNQUANTIZED:
        return _make_graph(spec, work, progress)
    threads = spec.threads or os.cpu_count() or 1
    folder, fp32 = work / "artifact", work / "fp32.onnx"
    folder.mkdir()

    progress("source", 0.0)
    found = source.resolve(spec.source)
    recipe = _recipe(found.folder, spec.task)
    limits = recipe.limits
    recipe.tokenizer.save(str(folder / _TOKENIZER), pretty=False)

    progress("export", 0.0)
    model = recipe.export(fp32)

    smoothing, kept = 0.0, tuple[str, ...]()
    if spec.precision is Precision.INT8:
        progress("calibrate", 0.0)
        plan = calibrate.plan(
            model,
            recipe.rows(texts.calibration()),
            pad_id=limits.pad_id,
            threads=threads,
            judge=recipe,
            progress=lambda done: progress("calibrate", done),
        )
        smoothing, kept = plan.smoothing, plan.keep
        progress("quantize", 0.0)
        model = quantize.quantize(model, peaks=plan.peaks, smoothing=smoothing, keep=set(kept))
    graph.save_mapped(model, folder)

    progress("evaluate", 0.0)
    rows = recipe.rows(texts.evaluation())
    reference, candidate = (
        Encoder(path, pad_id=limits.pad_id, threads=threads, output=recipe.output)
        for path in (fp32, folder / graph.MODEL_FILE)
    )
    measured = recipe.measured(reference, candidate, rows)
    progress("evaluate", 0.5)
    speed = evaluate.speed(reference, candidate, rows[::2], threads=threads)

    manifest = Manifest(
        model=spec.name,
        task=spec.task,
        precision=spec.precision,
        source=spec.source,
        source_sha256=found.sha256,
        limits=limits,
        samples=texts.SAMPLES,
        files=tuple(describe(folder, path.name) for path in sorted(folder.iterdir())),
        versions=_versions(),
        head=recipe.head,
    )
    return _Draft(folder, manifest, measured, speed, fp32.stat().st_size, smoothing, kept)


def _make_graph(spec: ModelSpec, work: Path, progress: Progress) -> _Draft:
    """For a model that takes no text, whose graph stays as it is."""
    from forebay.build import graphs

    if spec.precision is not Precision.FP32:
        raise BuildFailed(
            f"{spec.name!r} asks for {spec.precision.value}, and the graph of a model of the task "
            f'{spec.task.value!r} is left as it is: say `precision = "fp32"`.'
        )
    folder = work / "artifact"
    folder.mkdir()
    threads = spec.threads or os.cpu_count() or 1
    made = graphs.make(spec, folder, threads=threads, progress=progress)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        model=spec.name,
        task=spec.task,
        precision=spec.precision,
        source=spec.source,
        source_sha256=made.source_sha256,
        limits=None,
        samples=(),
        files=tuple(describe(folder, path.as_posix()) for path in files),
        versions=_versions(),
        head=made.head,
        image=made.image,
        signature=made.signature,
    )
    return _Draft(folder, manifest, made.measured, made.speed, made.fp32_bytes, 0.0, ())


def _versions() -> Versions:
    return Versions(
        **{name: importlib.metadata.version(name) for name in Versions.__struct_fields__}
    )


def _recipe(folder: Path, task: Task) -> _Recipe:
    if task is Task.EMBEDDING:
        from forebay.build.embedder import Embedder

        return Embedder(folder)
    from forebay.build.classifier import Classifier

    return Classifier(folder, task)
