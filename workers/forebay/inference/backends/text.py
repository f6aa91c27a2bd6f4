"""Text models, whatever runs their graph: a task makes rows of tokens, a graph runs them."""

from collections.abc import Sequence
from typing import Protocol

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.manifest import Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.of_artifact import OfArtifact
from forebay.inference.tasks.base import Task, Values


class TextGraph(Protocol):
    """What runs rows of tokens. Safe to run from many threads."""

    def run(self, rows: Sequence[PreparedRow]) -> Values:
        """One forward pass; see `Graph.run` of the onnx backend.

        Raises:
            BackendFailed: it failed on this batch, or was closed.
        """
        ...

    def close(self) -> None:
        """Drop the weights."""
        ...


class TextModel(OfArtifact):
    """A text model; what it does with a text is its task's business.

    Args:
        manifest: the artifact's manifest, already checked.
        task: the artifact's.
        graph: loaded.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
    """

    def __init__(
        self, manifest: Manifest, task: Task, graph: TextGraph, *, threads: int, streams: int
    ) -> None:
        super().__init__(manifest, threads=threads, streams=streams)
        self.task = task
        self._graph = graph

    def warm(self) -> None:
        """Run the manifest's samples, each alone and then all together.

        Raises:
            ArtifactError: a sample is refused, or what comes out has the wrong shape.
        """
        prepared = self.prepare(self.task.samples(self._manifest.samples), truncate=True)
        ready = [row for row in prepared if isinstance(row, PreparedRow)]
        fits = len(ready) == len(prepared)
        for batch in (*([row] for row in ready), ready):
            values = self._graph.run(batch)
            fits = fits and values.shape[-1] == self._manifest.text.dimensions
            if fits:
                self.task.outputs(batch, values)
        if not fits:
            raise ArtifactError(
                f"The artifact of {self._manifest.model!r} doesn't do what its manifest says with "
                f"the manifest's samples; run `forebay models build {self._manifest.model}`."
            )

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize rows and refuse what the task doesn't take, or what is over the limit.

        Args:
            rows: of the kinds that the task takes.
            truncate: keep the first tokens of a row over the limit, special tokens included.
            options: what is asked of the outputs.

        Returns:
            For each row, in order: the row ready to run, `TooLong`, or `InvalidInput`.
        """
        return self.task.prepare(rows, truncate=truncate, options=options)

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """One forward pass over rows padded to the longest of them.

        Returns:
            The task's output for each row, in order.

        Raises:
            BackendFailed: the graph failed on this batch.
        """
        return self.task.outputs(rows, self._graph.run(rows)) if rows else []

    def close(self) -> None:
        """Drop the graph and its weights."""
        self._graph.close()
