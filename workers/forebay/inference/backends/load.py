"""Turns a model's spec into its backend. Only the chosen backend is imported."""

import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from forebay.contract.errors import ArtifactError, ConfigurationError
from forebay.contract.execution import CPU
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.base import Backend
from forebay.runtime.processor import cores
from forebay.storage.artifacts import Artifact, ArtifactStore
from forebay.storage.descriptions import Descriptions

if TYPE_CHECKING:
    from forebay.storage.file_records import Files

MAX_STREAMS = 8
"""Forward passes at once in one process; on a larger machine more replicas serve better."""


def load(
    spec: ModelSpec, store: ArtifactStore, *, files: "Callable[[], Files] | None" = None
) -> Backend:
    """The backend that executes `spec`, loaded but not yet warm.

    Args:
        spec: the model.
        store: where its artifact is.
        files: opens the store of what a python model takes and makes.

    Raises:
        ArtifactError: the artifact is missing or damaged, or was built from another source,
            precision or task than the spec now asks for; or a python model doesn't load.
        ConfigurationError: an execution provider isn't in this machine's ONNX Runtime, a device or
            a library isn't on it, a python model's class isn't where its source says, or the model
            is a pipeline or generates text.
    """
    if spec.task is Task.GENERATION:
        raise ConfigurationError(
            f"{spec.name!r} generates text, which takes a worker. Ask a running gateway."
        )
    match spec.backend:
        case BackendName.ECHO:
            from forebay.inference.backends.echo import Echo

            return Echo()
        case BackendName.PYTHON:
            from forebay.inference.backends.python import PythonModel

            return PythonModel(spec, tell=Descriptions(store.home).write, files=files)
        case BackendName.PIPELINE:
            raise ConfigurationError(
                f"{spec.name!r} is a pipeline: it runs on the lanes of its steps, and not in one "
                "process. Ask a running gateway, or load its steps."
            )
        case BackendName.ONNX:
            from forebay.inference.backends import providers

            artifact = open_artifact(spec, store)
            threads, streams = room(spec)
            return _class_of(artifact.manifest.task)(
                artifact.folder,
                artifact.manifest,
                threads=threads,
                streams=streams,
                providers=providers.sessions(spec.onnx, home=store.home),
            )
        case BackendName.TORCH:
            from forebay.inference.backends.torch import TorchModel

            artifact = open_artifact(spec, store)
            threads, streams = room(spec)
            return TorchModel(
                artifact.folder,
                artifact.manifest,
                threads=threads,
                streams=streams,
                device=spec.device,
                options=spec.torch,
            )
        case BackendName.VLLM:
            raise ConfigurationError(f"{spec.name!r} has the backend 'vllm', which generates text.")


def open_artifact(spec: ModelSpec, store: ArtifactStore) -> Artifact:
    """The artifact of a spec, checked against it and against its own manifest.

    Raises:
        ArtifactError: it is missing or damaged, or was built of something else.
    """
    artifact = store.open(spec.name)
    manifest = artifact.manifest
    for field, built, wanted in (
        ("task", manifest.task, spec.task),
        ("source", manifest.source, spec.source),
        ("precision", manifest.precision, spec.precision),
        ("backend", manifest.backend, _builds(spec.backend)),
    ):
        if built != wanted:
            raise ArtifactError(
                f"Model {spec.name!r} was built with {field} {str(built)!r} and is now "
                f"asked to have {str(wanted)!r}: run `forebay models build {spec.name}`."
            )
    return artifact


def _builds(backend: BackendName) -> BackendName:
    """The backend whose artifacts a backend runs: vLLM runs those of PyTorch."""
    return BackendName.TORCH if backend is BackendName.VLLM else backend


def room(spec: ModelSpec) -> tuple[int, int]:
    """Threads of one forward pass, and passes at once."""
    there = cores()
    threads = min(spec.threads, there) or there
    return threads, min(there // threads, MAX_STREAMS)


def interruptible(spec: ModelSpec) -> bool:
    """Whether a forward pass is one thread on a CPU, so that the system can have it wait."""
    match spec.backend:
        case BackendName.ONNX:
            on_cpu = spec.onnx.providers == (CPU,)
        case BackendName.TORCH:
            on_cpu = spec.device == CPU
        case _:
            on_cpu = False  # a user's class need not be safe to call from several threads
    return on_cpu and room(spec)[0] == 1


def brief(spec: ModelSpec) -> bool:
    """Whether a forward pass is computation on a CPU whose time goes by its rows' lengths.

    It waits for nothing and nobody, and has an end.
    """
    if spec.backend is BackendName.ECHO:
        return True
    own = spec.task is Task.TENSORS  # a graph of the user's may have loops
    return spec.backend is BackendName.ONNX and spec.onnx.providers == (CPU,) and not own


def import_libraries(specs: Iterable[ModelSpec]) -> None:
    """Import what backends of these take, so that it counts for none of them in particular."""
    for backend, task in {(spec.backend, spec.task) for spec in specs}:
        if task is Task.GENERATION:
            from forebay.inference.generation import load as generation

            generation.import_libraries(backend)
        elif backend is BackendName.ONNX:
            _class_of(task)
        elif backend is not BackendName.PIPELINE:  # code alone, which every worker has
            importlib.import_module(f"forebay.inference.backends.{backend.value}")


def _class_of(task: Task) -> Callable[..., Backend]:
    """What serves a task's graph. Only that is imported: text needs no Pillow, images no tokens."""
    match task:
        case Task.IMAGE_CLASSIFICATION:
            from forebay.inference.backends.images import ImageModel

            return ImageModel
        case Task.TENSORS:
            from forebay.inference.backends.tensors import TensorsModel

            return TensorsModel
        case _:
            from forebay.inference.backends.onnx import OnnxModel

            return OnnxModel
