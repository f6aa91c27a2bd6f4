"""A network of PyTorch behind the loop. Only a worker of such a model imports it."""

from pathlib import Path

from forebay.contract.errors import ArtifactError
from forebay.contract.generation import GenerationTable
from forebay.contract.manifest import Manifest
from forebay.inference.backends.torch import check_device, set_threads
from forebay.inference.generation.model import ArtifactGenerator, context_of, read_words
from forebay.networks.decoder import PART, TorchDecoder, open_decoder


def open_generator(
    folder: Path, manifest: Manifest, table: GenerationTable, *, threads: int, device: str
) -> ArtifactGenerator:
    """A model that generates text in PyTorch.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, and how long they may be.
        threads: threads of one forward pass on the CPU, for the whole process.
        device: where it runs.

    Raises:
        ArtifactError: a file is damaged, or none that the manifest's words fit.
        ConfigurationError: the device isn't there, or the table asks for too long texts.
    """
    check_device(device)
    if manifest.network is None:
        raise ArtifactError(
            f"The artifact of {manifest.model!r} holds a graph, and no network for PyTorch: run "
            f"`forebay models build {manifest.model}`."
        )
    set_threads(threads)

    context = context_of(manifest, table)
    body = open_decoder(folder, precision=manifest.precision, device=device)
    session = TorchDecoder(body, slots=table.slots, capacity=context, chunk=PART)
    words = read_words(folder, manifest, context=context)
    return ArtifactGenerator(manifest, table, session, words)
