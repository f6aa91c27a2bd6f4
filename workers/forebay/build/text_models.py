"""The build of text models: from a Hugging Face folder to a draft, step by step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.build import (
    fuse,
    gauge,
    graph,
    kinds,
    precisions,
    prune,
    source,
    students,
    texts,
    trial,
)
from forebay.build.draft import Draft, Progress, manifest_of
from forebay.build.gauge import Gauge
from forebay.build.kinds import TextKind
from forebay.contract.model import ModelSpec
from forebay.contract.recipe import Fuse
from forebay.runtime import processor

if TYPE_CHECKING:
    from onnx import ModelProto

TOKENIZER = "tokenizer.json"

_WORTH = 1.03
"""Times as fast as before that a fusion must be to be kept: less is noise."""


def make(spec: ModelSpec, work: Path, progress: Progress) -> Draft:
    """Build a text model as its `[models.NAME.build]` says.

    Args:
        spec: the model.
        work: an empty folder.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed.
        OSError: the disk is full or not writable.
    """
    cores = processor.cores()
    build, folder, fp32 = spec.build, work / "artifact", work / "fp32.onnx"
    folder.mkdir()
    progress("source", 0.0)
    found = source.resolve(spec.source, base=Path(spec.folder))
    chosen = texts.gather(spec.folder, calibrate_on=build.calibration, evaluate_on=build.evaluation)
    kind = kinds.read(found.folder, spec.task)
    kind.tokenizer.save(str(folder / TOKENIZER), pretty=False)

    progress("export", 0.0)
    model = kind.export(fp32)
    measure = Gauge(
        kind,
        fp32,
        kind.rows(chosen.evaluation),
        threads=spec.threads or cores,
        cores=cores,
    )
    measure.record("export", model, "full precision")
    if build.distill is not None:
        model = _distilled(spec, found.folder, kind, work, chosen, measure, progress)
    if build.prune:
        progress("prune", 0.0)
        pruned = prune.prune(model, build.prune, scope=build.prune_scope)
        model = pruned.model
        measure.record(
            "prune",
            model,
            f"{build.prune:.0%} of the weights, by {build.prune_scope}: compressed "
            f"{pruned.compressed / 1e6:.1f} MB, before {pruned.compressed_before / 1e6:.1f} MB",
        )
    made = precisions.make(
        spec.precision,
        precisions.Setting(
            model=model,
            trials=_trials(spec, model, kind, chosen.calibration, cores),
            gauge=measure,
            budget=build.max_fp32,
            progress=progress,
        ),
    )
    final = _fused(build.fuse, model, made, measure, progress)
    graph.save_mapped(final, folder)

    progress("evaluate", 0.0)
    path = folder / graph.MODEL_FILE
    measured = measure.measured(path)
    progress("evaluate", 0.5)
    manifest = manifest_of(
        spec,
        folder,
        source_sha256=found.sha256,
        limits=kind.limits,
        samples=texts.SAMPLES,
        head=kind.head,
    )
    return Draft(
        folder,
        manifest,
        measured,
        measure.served(path),
        fp32.stat().st_size,
        smoothing=made.smoothing,
        kept_fp32=made.keep,
        steps=tuple(measure.steps),
    )


def _distilled(
    spec: ModelSpec,
    folder: Path,
    teacher: TextKind,
    work: Path,
    chosen: texts.Texts,
    measure: gauge.Gauge,
    progress: Progress,
) -> "ModelProto":
    """The graph of a student, measured before its training and after."""
    distill = spec.build.distill
    assert distill is not None
    out = work / "student"
    training = texts.apart(texts.read(Path(spec.folder, distill.texts)), chosen.evaluation)
    progress("cut", 0.0)
    layers = students.cut(folder, spec.task, distill.layers, out)
    student = kinds.read(out, spec.task)
    told = ", ".join(str(layer) for layer in layers)
    measure.record("cut", student.export(work / "cut.onnx"), f"layers {told}, untrained")
    progress("distill", 0.0)
    loss = students.train(
        teacher,
        student,
        teacher.rows(training),
        distill,
        out,
        progress=lambda done: progress("distill", done),
    )
    model = student.export(work / "student.onnx")
    measure.record(
        "distill",
        model,
        f"{len(training)} texts, {distill.epochs} epochs, seed {distill.seed}: loss {loss:.4f}",
    )
    return model


def _trials(
    spec: ModelSpec, model: "ModelProto", kind: TextKind, given: Sequence[texts.Text], cores: int
) -> trial.Trials:
    # Of embeddings the bar is a mean cosine too: what is aimed at is not under it.
    bar = spec.build.min_accuracy or 0.0
    aim = kind.aim if kind.head is not None else max(kind.aim, bar)
    return trial.Trials(
        model, kind.rows(given), kind, aim=aim, pad_id=kind.limits.pad_id, threads=cores
    )


def _fused(
    wanted: Fuse,
    model: "ModelProto",
    made: precisions.Made,
    measure: gauge.Gauge,
    progress: Progress,
) -> "ModelProto":
    """The final graph, with attention fused where that is asked for and possible."""
    if wanted is Fuse.OFF:
        return made.model
    progress("fuse", 0.0)
    fused, count = fuse.attention(model)
    if not count:
        measure.skip("fuse", "none", "no attention of the form that can be fused")
        return made.model
    result = made.remake(fused)
    gain = measure.ratio(made.model, result)
    kept = wanted is Fuse.ON or gain >= _WORTH
    why = f"{gain:.2f} times as fast as unfused" + ("" if kept else f", and {_WORTH} was asked")
    measure.record("fuse", result, f"{count} attentions", kept=kept, why=why)
    return result if kept else made.model
