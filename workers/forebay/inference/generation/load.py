"""Turns the spec of a model that generates text into what generates it."""

import importlib

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import BackendName, ModelSpec
from forebay.inference.backends.load import open_artifact, room
from forebay.inference.generation.protocol import Generator
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.checks import Checks

_MODULES = {
    BackendName.ECHO: "forebay.inference.generation.echo",
    BackendName.ONNX: "forebay.inference.generation.onnx",
    BackendName.TORCH: "forebay.inference.generation.torch",
    BackendName.VLLM: "forebay.inference.generation.vllm",
}


def load(spec: ModelSpec, store: ArtifactStore) -> Generator:
    """What generates a model's texts, loaded but not yet warm.

    Args:
        spec: the model, of the task `generation`.
        store: where its artifact is.

    Raises:
        ArtifactError: the artifact is missing or damaged, or was built of something else than the
            spec now asks for.
        ConfigurationError: its backend generates no text, or not as its table says.
    """
    match spec.backend:
        case BackendName.ECHO:
            from forebay.inference.generation.echo import EchoGenerator

            return EchoGenerator(spec.generation)
        case BackendName.ONNX:
            from forebay.inference.backends import providers
            from forebay.inference.generation import onnx

            artifact = open_artifact(spec, store)
            threads, _ = room(spec)
            return onnx.GraphGenerator(
                artifact.folder,
                artifact.manifest,
                spec.generation,
                threads=threads,
                providers=providers.sessions(spec.onnx, home=store.home),
                draft=store.open(spec.generation.draft) if spec.generation.draft else None,
                checks=Checks(store.home),
            )
        case BackendName.TORCH:
            from forebay.inference.generation import torch

            artifact = open_artifact(spec, store)
            threads, _ = room(spec)
            return torch.open_generator(
                artifact.folder,
                artifact.manifest,
                spec.generation,
                threads=threads,
                device=spec.device,
            )
        case BackendName.VLLM:
            from forebay.inference.generation import vllm

            artifact = open_artifact(spec, store)
            return vllm.open_generator(
                artifact.folder, artifact.manifest, spec.generation, options=spec.vllm
            )
        case _:
            raise ConfigurationError(
                f"{spec.name!r} can't generate text on the backend {spec.backend.value!r}."
            )


def import_libraries(backend: BackendName) -> None:
    """Import what a backend's generator takes, so that it counts for no model in particular."""
    module = _MODULES.get(backend)
    if module is not None:
        importlib.import_module(module)
