"""Text models with ONNX Runtime: a task makes rows of tokens, a graph runs them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.manifest import Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.graph import Graph
from forebay.inference.tasks.load import load

MODEL_FILE = "model.onnx"


class OnnxModel:
    """A text model in an ONNX Runtime session; what it does with a text is its task's business.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph or the tokenizer can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        threads: int,
        streams: int = 1,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
    ) -> None:
        self._threads = threads
        self._streams = streams
        self._manifest = manifest
        self.task = load(folder, manifest)
        self._graph = Graph(
            folder / MODEL_FILE,
            output=self.task.output,
            pad_id=manifest.limits.pad_id,
            threads=threads,
            providers=providers,
        )

    @property
    def threads(self) -> int:
        """Threads of one forward pass."""
        return self._threads

    @property
    def streams(self) -> int:
        """Forward passes that may run at once: a session is safe to run from many threads."""
        return self._streams

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self._manifest.version

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
            fits = fits and values.shape[-1] == self._manifest.limits.dimensions
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
            BackendFailed: ONNX Runtime failed on this batch.
        """
        return self.task.outputs(rows, self._graph.run(rows)) if rows else []

    def traced(self, path: Path) -> AbstractContextManager[None]:
        """See `backends.base.Traced`."""
        return self._graph.traced(path)

    def close(self) -> None:
        """Drop the session and its weights."""
        self._graph.close()
