"""A model that vLLM generates with. Only a worker of such a model imports it."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from forebay.contract.errors import ConfigurationError, InvalidInput
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.manifest import Manifest
from forebay.contract.model import Precision
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Row
from forebay.contract.vllm import VllmOptions
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.model import context_of, decoder_of, read_words, warm_up
from forebay.inference.generation.served import Served
from forebay.inference.generation.vllm_engine import VllmEngine

# Before it is imported: it reads these then. Nothing is told to anybody.
for _name, _value in (("VLLM_NO_USAGE_STATS", "1"), ("VLLM_LOGGING_LEVEL", "WARNING")):
    os.environ.setdefault(_name, _value)

try:
    _vllm: Any = importlib.import_module("vllm")
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"The vllm backend needs {error.name}: run `pip install 'forebay[vllm]'` in an environment "
        "of its own, as vLLM asks for a PyTorch of its own."
    ) from error

_TYPES: Final = {
    Precision.FP32: "float32",
    Precision.FP16: "float16",
    Precision.BF16: "bfloat16",
}
_DEFAULT: Final = Sampling()


class VllmGenerator:
    """A model that generates text; see `protocol.Generator`.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, and how long they may be.
        options: vLLM's.

    Raises:
        ArtifactError: a file is damaged, or none that the manifest's words fit.
        ConfigurationError: the table asks for too long texts, or vLLM can't run the model here.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, table: GenerationTable, options: VllmOptions
    ) -> None:
        decoder, context = decoder_of(manifest), context_of(manifest, table)
        self._manifest = manifest
        self._prompts, vocabulary = read_words(folder, manifest, context=context, held=False)
        self._served = _open(folder, manifest, table, context=context, options=options)
        self._engine = VllmEngine(
            self._served,
            _parameters,
            vocabulary,
            decoder.end_ids,
            slots=table.slots,
            capacity=context,
        )

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self._manifest.version

    @property
    def engine(self) -> VllmEngine:
        """What runs it."""
        return self._engine

    def warm(self) -> None:
        """Go on from the manifest's samples, side by side.

        Raises:
            ArtifactError: the model can't.
        """
        warm_up(self, self._engine, self._manifest)

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Render and tokenize prompts, as `ArtifactGenerator.prepare` does."""
        sampling = options.sampling or _DEFAULT
        return [self._prompts.prepare(row, index, sampling) for index, row in enumerate(rows)]

    def close(self) -> None:
        """End vLLM's processes."""
        self._served.engine_core.shutdown()


def open_generator(
    folder: Path, manifest: Manifest, table: GenerationTable, *, options: VllmOptions
) -> VllmGenerator:
    """A model that vLLM generates with; arguments and errors are those of `VllmGenerator`."""
    return VllmGenerator(folder, manifest, table, options)


def _open(
    folder: Path,
    manifest: Manifest,
    table: GenerationTable,
    *,
    context: int,
    options: VllmOptions,
) -> Served:
    """VLLM's engine, its processes started and its memory taken."""
    try:
        arguments = _vllm.EngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            trust_remote_code=False,
            load_format="safetensors",
            dtype=_TYPES[manifest.precision],
            max_model_len=context,
            # Texts of both lanes: those that somebody waits for have places of their own.
            max_num_seqs=2 * table.slots,
            scheduling_policy="priority",
            disable_log_stats=True,
            tensor_parallel_size=options.tensor_parallel_size,
            pipeline_parallel_size=options.pipeline_parallel_size,
            gpu_memory_utilization=options.gpu_memory_utilization,
            quantization=options.quantization,
            enforce_eager=options.enforce_eager,
            enable_prefix_caching=options.enable_prefix_caching,
        )
        return cast("Served", _vllm.LLMEngine.from_engine_args(arguments))
    except Exception as error:  # of its own, of PyTorch, of pydantic, of its processes
        raise ConfigurationError(
            f"vLLM {_vllm.__version__} can't run {manifest.model!r} here: {error} "
            f"Correct [models.{manifest.model}.vllm], or take the backend `torch` or `onnx`."
        ) from error


def _parameters(**asked: Any) -> object:
    kinds = importlib.import_module("vllm.sampling_params")
    # What is new in each step, and not all there is.
    return kinds.SamplingParams(output_kind=kinds.RequestOutputKind.DELTA, **asked)
