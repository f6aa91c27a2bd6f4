"""The build: a model in, an artifact published, or nothing changed."""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from forebay.build import bars
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import BuildReport
from forebay.contract.model import OF_NETWORKS, UNQUANTIZED, BackendName, ModelSpec, Precision
from forebay.contract.recipe import Fuse
from forebay.contract.rows import Task
from forebay.storage.artifacts import Artifact, ArtifactStore

if TYPE_CHECKING:
    from forebay.build.draft import Draft, Progress

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "tokenizers", "torch",
              "transformers")  # fmt: skip
_FOR_DECODERS = ("accelerate", "gguf", "onnxruntime_genai")
_OF_PRECISION = {
    Precision.FP16: ("half",),
    Precision.INT8: ("quantize", "smooth", "mix"),
    Precision.INT8_WEIGHT_ONLY: ("quantize", "mix"),
    Precision.INT4_WEIGHT_ONLY: ("quantize", "mix"),
}


class Built(msgspec.Struct, frozen=True):
    """What a build gives."""

    artifact: Artifact
    report: BuildReport


def steps(spec: ModelSpec) -> tuple[str, ...]:
    """What the build of a model goes through, in order."""
    build = spec.build
    if spec.backend in OF_NETWORKS:
        return ("source", "evaluate", "publish")
    if spec.task is Task.GENERATION:
        return ("source", "export", "evaluate", "publish")
    return (
        "source",
        "export",
        *(("cut", "distill") if build.distill is not None else ()),
        *(("prune",) if build.prune else ()),
        *_OF_PRECISION.get(spec.precision, ())[: 1 if spec.task in UNQUANTIZED else None],
        *(() if build.fuse is Fuse.OFF else ("fuse",)),
        "evaluate",
        "publish",
    )


def _unheard(step: str, fraction: float) -> None:
    """Nobody listens."""


def build(spec: ModelSpec, store: ArtifactStore, *, progress: "Progress" = _unheard) -> Built:
    """Turn a model's source into an artifact and make it the current one.

    The same source, settings and library versions give the same digest, unless the settings ask
    for a choice by speed (`build.fuse = "measure"`).

    Args:
        spec: the model, of any task but `echo` and `python`.
        store: where to publish.
        progress: told how far the build is: one of `steps` and the share of it that is done.

    Raises:
        BuildFailed: a step failed, a library of the `build` extra is missing, or the result is
            under the bar. What was published before stays current.
    """
    if spec.task in (Task.ECHO, Task.PYTHON, Task.PIPELINE):
        raise BuildFailed(f"{spec.name!r} has the task {spec.task.value!r}: nothing to build.")
    needed = (*_LIBRARIES, *(_FOR_DECODERS if spec.task is Task.GENERATION else ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise BuildFailed(
            f"Building needs {', '.join(missing)}: run `pip install 'forebay[build]'`."
        )
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="forebay-build-") as folder:
            draft = _maker(spec)(spec, Path(folder), progress)
            if draft.measured is not None:
                bars.check(
                    spec.name,
                    draft.measured,
                    min_accuracy=spec.build.min_accuracy,
                    steps=draft.steps,
                )
            progress("publish", 0.0)
            report = draft.report(seconds=time.perf_counter() - started)
            artifact = store.publish(draft.folder, draft.manifest, report=report)
    except OSError as error:
        raise BuildFailed(f"Building {spec.name!r} failed: {error}.") from error
    progress("publish", 1.0)
    return Built(artifact, report)


def _maker(spec: ModelSpec) -> "Callable[[ModelSpec, Path, Progress], Draft]":
    """What makes the draft of a model's kind."""
    # Here, because what only reads this module (the command line) has not torch's two seconds.
    if spec.task is Task.GENERATION and spec.backend in OF_NETWORKS:
        from forebay.build.decoders import networks

        return networks.make
    if spec.backend is BackendName.TORCH:
        from forebay.build import torch_models

        return torch_models.make
    if spec.task is Task.GENERATION:
        from forebay.build.decoders import pipeline

        return pipeline.make
    from forebay.build import graphs, text_models

    return graphs.make if spec.task in UNQUANTIZED else text_models.make
