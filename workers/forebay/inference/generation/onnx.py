"""A graph in ONNX Runtime behind the loop."""

from pathlib import Path

from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.generation import GenerationTable
from forebay.contract.manifest import Decoder, Manifest
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.model import ArtifactGenerator, decoder_of
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.session import DecoderSession

PART = 32
"""Tokens of prompts that are computed in a step, which is how long running texts wait for them
(decision 0038)."""


def open_generator(
    folder: Path,
    manifest: Manifest,
    table: GenerationTable,
    *,
    threads: int,
    providers: Providers = ON_CPU,
) -> ArtifactGenerator:
    """A model that generates text by a graph.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, and how long they may be.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: a file is damaged, or none that the manifest's words fit.
        ConfigurationError: the model can't take texts as long as the table says, or can't be run
            by a provider.
    """
    decoder: Decoder = decoder_of(manifest)

    def session(capacity: int) -> DecoderSession:
        return DecoderSession(
            folder / MODEL_FILE,
            decoder,
            Pool(decoder, slots=table.slots, capacity=capacity),
            chunk=PART,
            threads=threads,
            providers=providers,
        )

    return ArtifactGenerator(folder, manifest, table, session=session)
