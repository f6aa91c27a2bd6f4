"""What `models.toml` says about a model."""

import math
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from forebay.contract.caching import CacheOptions
from forebay.contract.execution import CPU, OnnxOptions, TorchOptions
from forebay.contract.generation import GenerationTable
from forebay.contract.image import ImageTable
from forebay.contract.recipe import BuildSpec
from forebay.contract.replicas import Replicas
from forebay.contract.rows import Task
from forebay.contract.signature import CONVERTED, SignatureTable
from forebay.contract.versions import VERSION_PATTERN, WHOLE, Version
from forebay.contract.vllm import VllmOptions

NOT_IN_A_FILE = frozenset({"name", "folder"})
"""Fields of a spec that its reader sets: a table can't."""

NAME_PATTERN = "[a-z0-9][a-z0-9._-]{0,62}"

ONNX_FILE = "onnx:"
"""How the source of a model that is an ONNX file begins."""

GGUF_FILE = "gguf:"
"""How the source of a model that is a GGUF file begins."""

GRAPHS = (ONNX_FILE, *CONVERTED)
"""How sources begin that are a graph already, or become one just so."""

_NOT_JOINED = frozenset({Task.ECHO, Task.PYTHON, Task.PIPELINE})


class BackendName(StrEnum):
    """What executes a model."""

    ONNX = "onnx"
    TORCH = "torch"
    PYTHON = "python"
    ECHO = "echo"
    PIPELINE = "pipeline"
    VLLM = "vllm"


_NOT_WATCHED = frozenset({Task.ECHO, Task.PIPELINE, Task.GENERATION})
_NOT_BUILT = frozenset({BackendName.ECHO, BackendName.PYTHON, BackendName.PIPELINE})


class Precision(StrEnum):
    """Number format a build aims at.

    `int8` quantizes weights per channel and activations per token, so that a row's result does
    not depend on who shares its batch. `int8-weight-only` and `int4-weight-only` quantize weights
    in blocks and compute in full precision: smaller, not faster. `fp16` and `bf16` compute in 16
    bits, of which `bf16` has FP32's range; `fp16` halves an ONNX graph, but an ONNX Runtime without
    16-bit kernels, as on most CPUs, computes in full precision. `int4` is for generation, where
    reading the weights takes the time: it quantizes them in blocks of 32, and activations to 8
    bits; likewise `int8` of a model that generates, in blocks of 64.
    """

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8_WEIGHT_ONLY = "int8-weight-only"
    INT4_WEIGHT_ONLY = "int4-weight-only"
    INT4 = "int4"


PRECISIONS = {
    BackendName.ONNX: frozenset(Precision) - {Precision.BF16, Precision.INT4},
    BackendName.TORCH: frozenset({Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8}),
    BackendName.VLLM: frozenset({Precision.FP32, Precision.FP16, Precision.BF16}),
}
"""Precisions that a backend's artifacts come in."""

OF_GENERATION = frozenset({Precision.INT4, Precision.INT8, Precision.FP16, Precision.FP32})
"""Those of a model that generates text, on the onnx backend."""


UNQUANTIZED = frozenset({Task.IMAGE_CLASSIFICATION, Task.TENSORS})
"""Tasks whose graphs a build leaves in their own precision (decision 0025), unless a folder of an
image classifier is to have 8 bits (decision 0034)."""

DEFAULTS = {**dict.fromkeys(UNQUANTIZED, Precision.FP32), Task.GENERATION: Precision.INT4}
"""Precision of a task's models where nothing is said, if it is not `int8`."""

OF_NETWORKS = frozenset({BackendName.TORCH, BackendName.VLLM})
"""Backends that run weights as transformers saves them, and no graph. They generate in `bf16` where
nothing is said."""


class BatchLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large one micro-batch may get.

    Attributes:
        max_rows: rows in one forward pass.
        max_tokens: padded tokens (rows x the longest row) in one forward pass.
        bulk_max_tokens: likewise in one of the bulk lane; as `max_tokens` if not given. While
            somebody waits in realtime such batches are kept short, unless they are interrupted.
        max_padding: largest share of a batch's padded tokens that may be padding, 0..1.
        target_ms: what a batch of realtime is to take at most, as predicted from those that ran; a
            row that takes longer runs alone. If not given, only the rows' deadlines bound it.
        max_wait_ms: how long an executor that is free waits for company; 0 takes what is there.
        timeout_s: a forward pass that takes longer is hung: its worker ends, and another runs its
            rows again, each prediction alone.
        prefetch_rows: rows a replica holds beyond the batch that runs, to sort them by length.
    """

    max_rows: int = 32
    max_tokens: int = 16_384
    bulk_max_tokens: int | None = None
    max_padding: float = 0.15
    target_ms: float | None = None
    max_wait_ms: float = 0.0
    prefetch_rows: int = 64
    timeout_s: float = 600.0


class LaneLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one lane.

    Attributes:
        max_rows: rows the lane holds, leased ones included; beyond it enqueueing is refused. If not
            given, realtime takes what its workers will have worked off before the deadline, but
            always 4,096, and bulk takes 1,000,000.
        deadline_s: how long a prediction may take before it expires.
    """

    max_rows: int | None = None
    deadline_s: float = 30.0


class BulkLimits(LaneLimits, frozen=True, forbid_unknown_fields=True):
    """Bounds of the bulk lane: as of any, with a day's time."""

    deadline_s: float = 86_400.0


class DriftWatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What workers remember of what they serve, for `forebay models drift`: counts, and no text.

    Attributes:
        watch: whether they do at all. If not given, they do, but for `echo`, `generation`, and
            `pipeline`, whose steps are watched.
        sample: share of the rows that is looked at, by chance. Of more than 200 rows a second a
            worker looks at fewer.
        keep_days: for how long a day's counts are kept.
    """

    watch: bool | None = None
    sample: float = 0.25
    keep_days: int = 14


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[models.NAME]` table.

    Attributes:
        task: what it does with a row.
        backend: what executes it.
        source: where a build takes the weights: a folder, `package:NAME/FOLDER` for weights
            inside an installed Python package, or `hf:owner/name@COMMIT` for those of a hub. An
            ONNX file: `onnx:path/to/file.onnx`, relative to the catalog's folder, or
            `onnx:package:NAME/FILE.onnx`. What is converted to one: `torchscript:path/to/file.pt`
            and `savedmodel:path/to/folder`, likewise relative. A
            GGUF file of a model that generates, likewise: `gguf:`. For a python model its class:
            `path/to/file.py:ClassName`, relative to the catalog's folder, or
            `package.module:ClassName`; likewise for a pipeline, unless it is a mere chain. Empty
            for backends that have none.
        steps: of a pipeline: the models whose lanes its rows go through, in order; with a class,
            those that it may call.
        precision: what a build aims at. If not given, `int8`; but `fp32` for images and tensors,
            whose graphs are left as they are, and for generation `int4`, or `bf16` where it is
            not the onnx backend that generates.
        threads: threads of one forward pass; 0 takes all cores. A worker runs as many forward
            passes at once as the cores have room for, so 1 means one on each core: the most rows
            per second for a small model, and hardly slower for a single row.
        join: whether requests for the very same that are under way at once are run once, for all.
            If not given, they are, but for `echo`, which is there to measure the whole way, and
            `python` and `pipeline`, where only you know whether the same input gives the same
            output.
        description: one line for people.
        batch: how large one micro-batch may get.
        realtime: bounds of the lane where somebody waits.
        bulk: bounds of the lane where nobody does; its deadline is a day.
        image: how an ONNX file that classifies images is fed, and its labels. A Hugging Face
            folder says that itself.
        sample: shapes of the inputs, by name, that a build tries an ONNX file on, where it can't
            find them by itself.
        signature: the tensors of a TorchScript file, which doesn't say them.
        drift: what workers remember of what they serve.
        build: how its artifact is made.
        version: what this table is called among the versions of the model.
        versions: other versions, each with what it has otherwise than this table.
        device: where a torch model runs: `cpu`, `cuda`, or `cuda:N` for one of several.
        torch: how the torch backend executes it.
        onnx: how the onnx backend executes it.
        generation: how its texts grow, if it generates any.
        replicas: how many workers `forebay up` has for it.
        cache: what is kept of its outputs, to answer the same again.
        vllm: how the vllm backend executes it.
        name: what the catalog calls it.
        folder: the catalog's.
    """

    task: Task
    backend: BackendName
    source: str = ""
    precision: Precision = Precision.INT8
    threads: int = 0
    join: bool | None = None
    description: str = ""
    batch: BatchLimits = BatchLimits()
    realtime: LaneLimits = LaneLimits()
    bulk: BulkLimits = BulkLimits()
    image: ImageTable = ImageTable()
    sample: dict[str, tuple[int, ...]] = {}
    signature: SignatureTable = SignatureTable()
    drift: DriftWatch = DriftWatch()
    build: BuildSpec = BuildSpec()
    version: str = "default"
    versions: dict[Annotated[str, Meta(pattern=f"^{VERSION_PATTERN}$")], Version] = {}
    device: str = CPU
    torch: TorchOptions = TorchOptions()
    onnx: OnnxOptions = OnnxOptions()
    generation: GenerationTable = GenerationTable()
    replicas: Replicas = Replicas()
    cache: CacheOptions = CacheOptions()
    name: str = ""
    folder: str = ""
    steps: tuple[str, ...] = ()
    vllm: VllmOptions = VllmOptions()

    @property
    def joins(self) -> bool:
        """Whether the very same is run once for all who ask for it at once."""
        return self.task not in _NOT_JOINED if self.join is None else self.join

    @property
    def is_watched(self) -> bool:
        """Whether workers remember what they serve."""
        return self.task not in _NOT_WATCHED if self.drift.watch is None else self.drift.watch

    @property
    def is_built(self) -> bool:
        """Whether it is served from an artifact, which has to be built first."""
        return self.backend not in _NOT_BUILT

    @property
    def default_precision(self) -> Precision:
        """What a build aims at where the table doesn't say."""
        if self.task is Task.GENERATION and self.backend in OF_NETWORKS:
            return Precision.BF16
        return DEFAULTS.get(self.task, Precision.INT8)

    @property
    def shares(self) -> dict[str, float]:
        """Each version's share of the model's requests, per cent, this table's own first."""
        weights = {name: version.weight for name, version in self.versions.items()}
        return {self.version: round(WHOLE - math.fsum(weights.values()), 9), **weights}
