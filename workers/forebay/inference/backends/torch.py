"""Text models with PyTorch, eager or compiled. Only a worker of such a model imports it."""

from collections.abc import Sequence
from pathlib import Path

from forebay.contract.errors import ArtifactError, BackendFailed, ConfigurationError
from forebay.contract.execution import CPU, TorchOptions
from forebay.contract.manifest import Manifest
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.text import TextModel
from forebay.inference.tasks.base import Tokens, Values
from forebay.inference.tasks.load import load
from forebay.networks.threads import keep_threads_from_spinning

keep_threads_from_spinning()

try:
    import torch

    from forebay.networks.network import open_network
    from forebay.networks.running import Runner
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"The torch backend needs {error.name}: run `pip install 'forebay[torch]'`."
    ) from error


class TorchGraph:
    """A network that runs prepared rows.

    Args:
        runner: runs rows of ids.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner: Runner | None = runner

    def compile(self) -> None:
        """Compile it for every kind of shape, where that is asked for."""
        if self._runner is not None:
            self._runner.compile()

    def run(self, rows: Sequence[PreparedRow]) -> Values:
        """One forward pass over rows padded to a common length.

        Raises:
            BackendFailed: PyTorch failed on this batch, or the graph was closed.
        """
        runner = self._runner
        if runner is None:
            raise BackendFailed("The model was closed.")
        segments = [row.segments if isinstance(row, Tokens) else None for row in rows]
        try:
            return runner.run([row.data for row in rows], segments)
        except Exception as error:  # PyTorch raises what it likes, its compiler even more so
            raise BackendFailed("The model failed while it ran these rows.") from error

    def close(self) -> None:
        """Drop the network and its weights."""
        self._runner = None


class TorchModel(TextModel):
    """A text model in PyTorch.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass on the CPU. PyTorch has one such number for a whole
            process: of several models in one worker the last to be loaded sets it.
        streams: forward passes that may run at once; on a GPU one, which has queues of its own.
        device: where it runs.
        options: how it is executed.

    Raises:
        ArtifactError: the weights or the tokenizer can't be loaded.
        ConfigurationError: the device isn't there.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        threads: int,
        streams: int = 1,
        device: str = CPU,
        options: TorchOptions | None = None,
    ) -> None:
        check_device(device)
        if manifest.network is None:
            raise ArtifactError(
                f"The artifact of {manifest.model!r} holds a graph, and no network for PyTorch: "
                f"run `forebay models build {manifest.model}`."
            )
        set_threads(threads)
        network = open_network(
            folder, manifest.network, precision=manifest.precision, device=device
        )
        runner = Runner(
            network,
            manifest.text,
            segments=manifest.network.segments,
            options=options or TorchOptions(),
            device=device,
        )
        graph = TorchGraph(runner)
        self._compile = graph.compile
        super().__init__(
            manifest,
            load(folder, manifest),
            graph,
            threads=threads,
            streams=streams if device == CPU else 1,
        )

    def warm(self) -> None:
        """Compile, if asked to, for rows in any number and of any length; then run the samples.

        Raises:
            ArtifactError: a sample is refused, or what comes out has the wrong shape.
            ConfigurationError: it can't be compiled here.
        """
        try:
            self._compile()
        except Exception as error:  # the compiler's own, those of the C++ compiler's absence, …
            raise ConfigurationError(
                f"PyTorch can't compile the model {self._manifest.model!r} here "
                f"({type(error).__name__}): install a C++ compiler (g++), or set "
                f"`compile = false` in [models.{self._manifest.model}.torch]."
            ) from error
        super().warm()


def set_threads(threads: int) -> None:
    """Of one forward pass on the CPU: PyTorch has one such number for a whole process."""
    torch.set_num_threads(threads)


def check_device(device: str) -> None:
    """Make sure that PyTorch has the device.

    Raises:
        ConfigurationError: it hasn't; says what to do.
    """
    if device == CPU:
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise ConfigurationError(
            f"PyTorch {torch.__version__} finds {count or 'no'} CUDA device"
            f"{'' if count == 1 else 's'} on this machine, and {device!r} is asked for: set "
            "`device`, or install PyTorch for CUDA and the GPU's driver."
        )
