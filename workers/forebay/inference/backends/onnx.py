"""Text models with ONNX Runtime."""

from contextlib import AbstractContextManager
from pathlib import Path

from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.manifest import Manifest
from forebay.inference.backends.graph import MODEL_FILE, Graph
from forebay.inference.backends.text import TextModel
from forebay.inference.tasks.load import load


class OnnxModel(TextModel):
    """A text model in an ONNX Runtime session.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
        providers: ONNX Runtime execution providers, by name, the preferred one first, and the
            options of each.

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
        providers: Providers = ON_CPU,
    ) -> None:
        task = load(folder, manifest)
        graph = Graph(
            folder / MODEL_FILE,
            output=task.output,
            pad_id=manifest.text.pad_id,
            threads=threads,
            providers=providers,
        )
        super().__init__(manifest, task, graph, threads=threads, streams=streams)
        self._trace = graph.traced

    def traced(self, path: Path) -> AbstractContextManager[None]:
        """See `backends.base.Traced`."""
        return self._trace(path)
