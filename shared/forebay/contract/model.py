"""What `models.toml` says about a model."""

import math
import re
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from forebay.contract.caching import CacheOptions
from forebay.contract.class_source import FORM, ClassSource
from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import CPU, OnnxOptions, TorchOptions, is_device
from forebay.contract.image import ImageTable
from forebay.contract.recipe import BuildSpec
from forebay.contract.rows import Task
from forebay.contract.versions import VERSION_PATTERN, WHOLE, Version

NOT_IN_A_FILE = frozenset({"name", "folder"})
"""Fields of a spec that its reader sets: a table can't."""

NAME_PATTERN = "[a-z0-9][a-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)

ONNX_FILE = "onnx:"
"""How the source of a model that is an ONNX file begins."""

MAX_SAMPLE = 1_000_000
"""Longest axis of a tensor that a build tries a graph on."""

_NOT_JOINED = frozenset({Task.ECHO, Task.PYTHON, Task.PIPELINE})


class BackendName(StrEnum):
    """What executes a model."""

    ONNX = "onnx"
    TORCH = "torch"
    PYTHON = "python"
    ECHO = "echo"
    PIPELINE = "pipeline"


_NOT_WATCHED = frozenset({Task.ECHO, Task.PIPELINE})
_NOT_BUILT = frozenset({BackendName.ECHO, BackendName.PYTHON, BackendName.PIPELINE})
_WITHOUT_SOURCE = frozenset({BackendName.ECHO, BackendName.PIPELINE})
_WITH_CLASS = frozenset({BackendName.PYTHON, BackendName.PIPELINE})


class Precision(StrEnum):
    """Number format a build aims at.

    `int8` quantizes weights per channel and activations per token, so that a row's result does
    not depend on who shares its batch. `int8-weight-only` and `int4-weight-only` quantize weights
    in blocks and compute in full precision: smaller, not faster. `fp16` and `bf16` compute in 16
    bits, of which `bf16` has FP32's range; `fp16` halves an ONNX graph, but an ONNX Runtime without
    16-bit kernels, as on most CPUs, computes in full precision.
    """

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8_WEIGHT_ONLY = "int8-weight-only"
    INT4_WEIGHT_ONLY = "int4-weight-only"


PRECISIONS = {
    BackendName.ONNX: frozenset(Precision) - {Precision.BF16},
    BackendName.TORCH: frozenset({Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8}),
}
"""Precisions that a backend's artifacts come in."""


UNQUANTIZED = frozenset({Task.IMAGE_CLASSIFICATION, Task.TENSORS})
"""Tasks whose graphs a build leaves in their own precision (decision 0025)."""


class BatchLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large one micro-batch may get.

    Attributes:
        max_rows: rows in one forward pass.
        max_tokens: padded tokens (rows x the longest row) in one forward pass.
        max_padding: largest share of a batch's padded tokens that may be padding, 0..1.
        max_wait_ms: how long an executor that is free waits for company; 0 takes what is there.
        timeout_s: a forward pass that takes longer is hung: its worker ends, and another runs its
            rows again, each prediction alone.
        prefetch_rows: rows a replica holds beyond the batch that runs, to sort them by length.
    """

    max_rows: int = 32
    max_tokens: int = 16_384
    max_padding: float = 0.15
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
        watch: whether they do at all. If not given, they do, but for `echo`, and `pipeline`,
            whose steps are watched.
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
            `onnx:package:NAME/FILE.onnx`. For a python model its class:
            `path/to/file.py:ClassName`, relative to the catalog's folder, or
            `package.module:ClassName`; likewise for a pipeline, unless it is a mere chain. Empty
            for backends that have none.
        steps: of a pipeline: the models whose lanes its rows go through, in order; with a class,
            those that it may call.
        precision: what a build aims at. If not given, `int8`; but `fp32` for images and tensors,
            whose graphs are left as they are.
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
        drift: what workers remember of what they serve.
        build: how its artifact is made.
        version: what this table is called among the versions of the model.
        versions: other versions, each with what it has otherwise than this table.
        device: where a torch model runs: `cpu`, `cuda`, or `cuda:N` for one of several.
        torch: how the torch backend executes it.
        onnx: how the onnx backend executes it.
        cache: what is kept of its outputs, to answer the same again.
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
    drift: DriftWatch = DriftWatch()
    build: BuildSpec = BuildSpec()
    version: str = "default"
    versions: dict[Annotated[str, Meta(pattern=f"^{VERSION_PATTERN}$")], Version] = {}
    device: str = CPU
    torch: TorchOptions = TorchOptions()
    onnx: OnnxOptions = OnnxOptions()
    cache: CacheOptions = CacheOptions()
    name: str = ""
    folder: str = ""
    steps: tuple[str, ...] = ()

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
    def shares(self) -> dict[str, float]:
        """Each version's share of the model's requests, per cent, this table's own first."""
        weights = {name: version.weight for name, version in self.versions.items()}
        return {self.version: round(WHOLE - math.fsum(weights.values()), 9), **weights}

    def checked(self, name: str) -> "ModelSpec":
        """This spec under its name.

        Raises:
            ConfigurationError: the name or a value is out of range; the message names the field.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"models.{name}: a model's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', "
                "and starts with a letter or digit."
            )
        where = f"models.{name}"
        batch = self.batch
        for field, ok, rule in (
            ("batch.max_rows", batch.max_rows >= 1, "at least 1"),
            ("batch.max_tokens", batch.max_tokens >= 1, "at least 1"),
            ("batch.max_padding", 0 <= batch.max_padding < 1, "from 0 up to, not including, 1"),
            ("batch.max_wait_ms", 0 <= batch.max_wait_ms < math.inf, "0 or more, and finite"),
            ("batch.prefetch_rows", batch.prefetch_rows >= 1, "at least 1"),
            ("batch.timeout_s", 0 < batch.timeout_s < math.inf, "more than 0, and finite"),
            ("realtime.max_rows", _at_least_1(self.realtime.max_rows), "at least 1"),
            (
                "realtime.deadline_s",
                0 < self.realtime.deadline_s < math.inf,
                "more than 0, and finite",
            ),
            ("bulk.max_rows", _at_least_1(self.bulk.max_rows), "at least 1"),
            ("bulk.deadline_s", 0 < self.bulk.deadline_s < math.inf, "more than 0, and finite"),
            ("drift.sample", 0 < self.drift.sample <= 1, "more than 0, up to 1"),
            ("drift.keep_days", 1 <= self.drift.keep_days <= 3_650, "from 1 to 3,650"),
            ("threads", 0 <= self.threads <= 1_024, "from 0 to 1,024"),
            ("source", self.backend in _WITHOUT_SOURCE or bool(self.source), "given"),
            (
                "backend",
                (self.backend is BackendName.ECHO) == (self.task is Task.ECHO)
                and (self.backend is BackendName.PYTHON) == (self.task is Task.PYTHON)
                and (self.backend is BackendName.PIPELINE) == (self.task is Task.PIPELINE),
                f"one that runs the task {self.task.value!r}",
            ),
            (
                "source",
                self.backend not in _WITH_CLASS
                or (self.backend is BackendName.PIPELINE and not self.source)
                or _names_class(self.source),
                FORM,
            ),
            (
                "steps",
                bool(self.steps) == (self.task is Task.PIPELINE),
                "given for a pipeline, and for no other task",
            ),
            *self._of_execution(),
            (
                "version",
                _VERSION.fullmatch(self.version) is not None,
                "1 to 31 of a-z, 0-9, '.', '_' and '-', a letter or digit first",
            ),
            ("version", self.version not in self.versions, "a name that no other version has"),
            ("versions", self.shares[self.version] >= 0, "of weights that are 100 at most"),
            *(
                (
                    f"versions.{version}.shadow",
                    not (told.shadow and told.weight),
                    "false where there is a weight: what answers requests gets no copies of them",
                )
                for version, told in self.versions.items()
            ),
            (
                "build",
                self.is_built or self.build == BuildSpec(),
                "left out: nothing is built of it",
            ),
            (
                "build",
                self.task not in UNQUANTIZED
                or self.build == BuildSpec(min_accuracy=self.build.min_accuracy),
                f"left out, but for min_accuracy: a graph of {self.task.value!r} is left as it is",
            ),
            *self._of_graphs(),
            *self._of_cache(),
        ):
            if not ok:
                raise ConfigurationError(f"{where}.{field}: must be {rule}.")
        self.build.check(f"{where}.build")
        self.onnx.check(f"{where}.onnx")
        return msgspec.structs.replace(self, name=name)

    def _of_execution(self) -> tuple[tuple[str, bool, str], ...]:
        """Rules for what executes it: the field, whether it is well, and what it must be."""
        is_torch, is_onnx = self.backend is BackendName.TORCH, self.backend is BackendName.ONNX
        made = ", ".join(sorted(PRECISIONS[self.backend])) if self.backend in PRECISIONS else ""
        return (
            ("device", is_device(self.device), "`cpu`, `cuda` or `cuda:N`"),
            (
                "device",
                is_torch or self.device == CPU,
                "left out unless the backend is 'torch'; an onnx model names `onnx.providers`",
            ),
            (
                "backend",
                not is_torch or self.task not in UNQUANTIZED,
                f"'onnx' for the task {self.task.value!r}: PyTorch runs models of text",
            ),
            (
                "build",
                not is_torch or self.build == self.build.measuring,
                "`evaluation` and `min_accuracy` at most: the rest is for ONNX graphs",
            ),
            ("torch", is_torch or self.torch == TorchOptions(), "left out of another backend's"),
            ("onnx", is_onnx or self.onnx == OnnxOptions(), "left out of another backend's"),
            (
                "precision",
                not made or self.precision in PRECISIONS[self.backend],
                f"one that the backend {self.backend.value!r} has: {made}",
            ),
        )

    def _of_cache(self) -> tuple[tuple[str, bool, str], ...]:
        """Rules for the cache: the field, whether it is well, and what it must be."""
        wrong = self.cache.wrong()
        return (
            (f"cache.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
            (
                "cache.enabled",
                self.task is not Task.PIPELINE or not self.cache.enabled,
                "left out: a pipeline answers with what its steps make, and they change without it",
            ),
        )

    def _of_graphs(self) -> tuple[tuple[str, bool, str], ...]:
        """Rules for images and tensors: the field, whether it is well, and what it must be."""
        wrong, is_file = self.image.wrong(), self.source.startswith(ONNX_FILE)
        images = self.task is Task.IMAGE_CLASSIFICATION
        shapes = self.sample.values()
        return (
            (f"image.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
            (
                "image",
                self.image == ImageTable() or (images and is_file),
                "left out: it is for ONNX files that classify images",
            ),
            (
                "image.labels",
                bool(self.image.labels) or not (images and is_file),
                "given: what the scores of an ONNX file are of",
            ),
            ("source", not is_file or self.task in UNQUANTIZED, "no ONNX file for this task"),
            (
                "precision",
                self.task not in UNQUANTIZED or self.precision is Precision.FP32,
                f"fp32 for the task {self.task.value!r}: its graph is left as it is",
            ),
            (
                "source",
                self.task is not Task.TENSORS or is_file or self.backend is not BackendName.ONNX,
                f"an ONNX file, `{ONNX_FILE}path/to/file.onnx`",
            ),
            (
                "sample",
                all(0 < side <= MAX_SAMPLE for shape in shapes for side in shape),
                f"shapes of 1 to {MAX_SAMPLE:,} in each dimension",
            ),
        )


def _names_class(source: str) -> bool:
    try:
        ClassSource.parse(source)
    except ConfigurationError:
        return False
    return True


def _at_least_1(value: int | None) -> bool:
    return value is None or value >= 1
