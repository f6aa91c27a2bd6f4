"""Turns the spec of a model that generates text into what generates it."""

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import BackendName, ModelSpec
from forebay.inference.generation.protocol import Generator
from forebay.storage.artifacts import ArtifactStore


def load(spec: ModelSpec, store: ArtifactStore) -> Generator:
    """What generates a model's texts, loaded but not yet warm.

    Args:
        spec: the model, of the task `generation`.
        store: where its artifact is.

    Raises:
        ArtifactError: the artifact is missing or damaged, or was built of something else than the
            spec now asks for.
        ConfigurationError: its backend generates no text.
    """
    match spec.backend:
        case BackendName.ECHO:
            from forebay.inference.generation.echo import EchoGenerator

            return EchoGenerator(spec.generation)
        case _:
            raise ConfigurationError(
                f"{spec.name!r} can't generate text on the backend {spec.backend.value!r}."
            )


def import_libraries(backend: BackendName) -> None:
    """Import what a backend's generator takes, so that it counts for no model in particular."""
