"""A graph in ONNX Runtime behind the loop, and what drafts for it."""

from pathlib import Path

from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.generation import GenerationTable
from forebay.contract.manifest import Manifest
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.drafting import Drafting, Room
from forebay.inference.generation.model import ArtifactGenerator, context_of, decoder_of
from forebay.inference.generation.session import DecoderSession
from forebay.storage.artifacts import Artifact

PART = 32
"""Tokens of prompts that are computed in a step, which is how long running texts wait for them
(decision 0038)."""


class GraphGenerator(ArtifactGenerator):
    """A model that generates text by a graph.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, how long they may be, and who drafts.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, by name, the preferred one first.
        draft: the artifact of a model that drafts, where the table names one.

    Raises:
        ArtifactError: a file is damaged, or none that the manifest's words fit.
        ConfigurationError: the model can't take texts as long as the table says, can't be run by a
            provider, or can't be drafted for by the other.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        table: GenerationTable,
        *,
        threads: int,
        providers: Providers = ON_CPU,
        draft: Artifact | None = None,
    ) -> None:
        decoder, context = decoder_of(manifest), context_of(manifest, table)
        room = Room(table.slots, context, threads, providers)
        self._drafting = Drafting(manifest.model, decoder, folder, table, room, draft)
        self._graph = DecoderSession(
            folder / MODEL_FILE,
            decoder,
            self._drafting.pool,
            chunk=PART,
            threads=threads,
            providers=providers,
        )
        super().__init__(folder, manifest, table, self._graph)

    def warm(self) -> None:
        """Go on from the manifest's samples, side by side, and try what drafting rests on.

        Raises:
            ArtifactError: the model can't.
        """
        super().warm()
        speculating = self._drafting.begin(self._graph)
        if speculating is not None:
            self.engine.speculate(speculating)

    def close(self) -> None:
        """Drop the weights, those of who drafts included, and all keys and values."""
        super().close()
        self._drafting.close()
