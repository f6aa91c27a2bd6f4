"""The steps of a build, in order, and the bar its result must reach."""

import importlib.metadata
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Accuracy, BuildReport, Manifest, Speed, Versions
from forebay.contract.model import ModelSpec, Precision
from forebay.contract.rows import Task
from forebay.storage.artifacts import Artifact, ArtifactStore, describe

MIN_MEAN_COSINE = 0.995
MIN_INVARIANCE = 0.9999

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
        spec: the model; its task must be `embedding`.
        store: where to publish.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed, a library of the `build` extra is missing, or the result is
            under the bar. What was published before stays current.
    """
    if spec.task is not Task.EMBEDDING:
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
            check(spec.name, draft.accuracy)
            progress("publish", 0.0)
            report = draft.report(seconds=time.perf_counter() - started)
            artifact = store.publish(draft.folder, draft.manifest, report=report)
    except OSError as error:
        raise BuildFailed(f"Building {spec.name!r} failed: {error}.") from error
    progress("publish", 1.0)
    return Built(artifact, report)


def check(model: str, accuracy: Accuracy) -> None:
    """Hold a result against the bar.

    Raises:
        BuildFailed: it is under it; the message says by which measure.
    """
    for measure, value, bar in (
        ("mean cosine to FP32", accuracy.mean_cosine, MIN_MEAN_COSINE),
        ("batch invariance", accuracy.invariance, MIN_INVARIANCE),
    ):
        if not value >= bar:
            raise BuildFailed(
                f"The build of {model!r} is not published: its {measure} on {accuracy.texts} "
                f"texts is {value:.5f}, and at least {bar} is asked. "
                'Try `precision = "fp32"` for this model.'
            )


class _Draft(msgspec.Struct, frozen=True):
    """An artifact that is made and measured, but not published."""

    folder: Path
    manifest: Manifest
    accuracy: Accuracy
    speed: Speed
    fp32_bytes: int
    smoothing: float
    kept_fp32: tuple[str, ...]

    def report(self, *, seconds: float) -> BuildReport:
        return BuildReport(
            accuracy=self.accuracy,
            speed=self.speed,
            fp32_bytes=self.fp32_bytes,
            bytes=sum(file.bytes for file in self.manifest.files),
            smoothing=self.smoothing,
            kept_fp32=self.kept_fp32,
            seconds=round(seconds, 1),
        )


def _make(spec: ModelSpec, work: Path, progress: Progress) -> _Draft:
    # Here, because what only reads this module (the command line) has not torch's two seconds.
    from forebay.build import calibrate, evaluate, graph, layout, quantize, source, texts
    from forebay.build.encoder import Encoder, tokenize
    from forebay.build.export import export

    threads = spec.threads or os.cpu_count() or 1
    folder, fp32 = work / "artifact", work / "fp32.onnx"
    folder.mkdir()

    progress("source", 0.0)
    found = source.resolve(spec.source)
    form = layout.read(found.folder)
    limits = form.limits
    tokenizer = layout.open_tokenizer(found.folder)
    tokenizer.save(str(folder / _TOKENIZER), pretty=False)

    progress("export", 0.0)
    model = export(found.folder, form, fp32)

    smoothing, kept = 0.0, tuple[str, ...]()
    if spec.precision is Precision.INT8:
        progress("calibrate", 0.0)
        plan = calibrate.plan(
            model,
            tokenize(tokenizer, texts.calibration(), limits),
            pad_id=limits.pad_id,
            threads=threads,
            progress=lambda done: progress("calibrate", done),
        )
        smoothing, kept = plan.smoothing, plan.keep
        progress("quantize", 0.0)
        model = quantize.quantize(model, peaks=plan.peaks, smoothing=smoothing, keep=set(kept))
    graph.save_mapped(model, folder)

    progress("evaluate", 0.0)
    rows = tokenize(tokenizer, texts.evaluation(), limits)
    reference = Encoder(fp32, pad_id=limits.pad_id, threads=threads)
    candidate = Encoder(folder / graph.MODEL_FILE, pad_id=limits.pad_id, threads=threads)
    accuracy = evaluate.accuracy(reference, candidate, rows)
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
        versions=Versions(
            **{name: importlib.metadata.version(name) for name in Versions.__struct_fields__}
        ),
    )
    return _Draft(folder, manifest, accuracy, speed, fp32.stat().st_size, smoothing, kept)
