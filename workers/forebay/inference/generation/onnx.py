"""A graph in ONNX Runtime behind the loop, and what drafts for it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.generation import GenerationTable, Guesses
from forebay.contract.manifest import Manifest
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.checking import Speculating
from forebay.inference.generation.drafting import Drafting, Room
from forebay.inference.generation.model import (
    ArtifactGenerator,
    context_of,
    decoder_of,
    read_words,
)
from forebay.inference.generation.session import DecoderSession
from forebay.storage.artifacts import Artifact
from forebay.storage.checks import Checks

log = logging.getLogger(__name__)

PART = 32
"""Tokens of prompts that are computed in a step, which is how long running texts wait for them
(decision 0038)."""


def threads_of(manifest: Manifest, threads: int) -> int:
    """Threads of one run: no more than the graph has heads of attention.

    With more, ONNX Runtime may share out the keys of one head among several threads, so that what
    they sum up to depends on how many texts there are: other bits in other company.

    Args:
        manifest: of a graph.
        threads: as many as there may be.
    """
    if not 0 < manifest.heads < threads:
        return threads
    log.info(
        "%s: %d threads, and not %d, as many as it has heads of attention",
        manifest.model,
        manifest.heads,
        threads,
    )
    return manifest.heads


class GraphGenerator(ArtifactGenerator):
    """A model that generates text by a graph.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, how long they may be, and who drafts.
        threads: threads of one run, at most.
        providers: ONNX Runtime execution providers, by name, the preferred one first.
        draft: the artifact of a model that drafts, where the table names one.
        checks: what was found out of drafts when the model was last loaded.

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
        checks: Checks | None = None,
    ) -> None:
        decoder, context = decoder_of(manifest), context_of(manifest, table)
        threads = threads_of(manifest, threads)
        room = Room(table.slots, context, threads, providers)
        self._checks = checks
        self._drafting = Drafting(manifest.model, decoder, folder, table, room, draft)
        with ThreadPoolExecutor(1) as beside:
            words = beside.submit(read_words, folder, manifest, context=context)
            self._graph = DecoderSession(
                folder / MODEL_FILE,
                decoder,
                self._drafting.pool,
                chunk=PART,
                threads=threads,
                providers=providers,
            )
        self._speculating: Speculating | None = None
        super().__init__(manifest, table, self._graph, words.result())

    @property
    def guesses(self) -> Guesses | None:
        """What drafts came to; None where nothing is drafted."""
        return None if self._speculating is None else self._speculating.guesses

    def warm(self) -> None:
        """Go on from the manifest's samples, side by side, and try what drafting rests on.

        Raises:
            ArtifactError: the model can't.
        """
        super().warm()
        self._speculating = self._drafting.begin(
            self._graph, version=self.version, checks=self._checks
        )
        if self._speculating is not None:
            self.engine.speculate(self._speculating)

    def close(self) -> None:
        """Drop the weights, those of who drafts included, and all keys and values."""
        super().close()
        self._drafting.close()
