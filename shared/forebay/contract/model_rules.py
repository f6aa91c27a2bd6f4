"""Which values the table of a model may have, and may have together."""

import itertools
import math
import re
from typing import Final

import msgspec

from forebay.contract.class_source import FORM, ClassSource
from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import CPU, OnnxOptions, TorchOptions, is_device
from forebay.contract.generation import GenerationTable, Speculation
from forebay.contract.image import ImageTable
from forebay.contract.model import (
    GGUF_FILE,
    GRAPHS,
    NAME_PATTERN,
    OF_GENERATION,
    ONNX_FILE,
    PRECISIONS,
    UNQUANTIZED,
    BackendName,
    ModelSpec,
    Precision,
)
from forebay.contract.recipe import BuildSpec
from forebay.contract.rows import Task
from forebay.contract.signature import SAVED_MODEL, TORCHSCRIPT, SignatureTable
from forebay.contract.versions import VERSION_PATTERN
from forebay.contract.vllm import VllmOptions

MAX_SAMPLE: Final = 1_000_000
"""Longest axis of a tensor that a build tries a graph on."""

MAX_CONTEXT: Final = 1_048_576
"""Most tokens of a prompt and its text."""

_NAME: Final = re.compile(NAME_PATTERN)
_VERSION: Final = re.compile(VERSION_PATTERN)
_ECHOED: Final = frozenset({Task.ECHO, Task.GENERATION})
_WITHOUT_SOURCE: Final = frozenset({BackendName.ECHO, BackendName.PIPELINE})
_WITH_CLASS: Final = frozenset({BackendName.PYTHON, BackendName.PIPELINE})

Rule = tuple[str, bool, str]
"""A field, whether it is well, and what it must be."""


def checked(spec: ModelSpec, name: str) -> ModelSpec:
    """A spec under its name.

    Raises:
        ConfigurationError: the name or a value is out of range; the message names the field.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"models.{name}: a model's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', "
            "and starts with a letter or digit."
        )
    where = f"models.{name}"
    rules = (
        *_of_limits(spec),
        *_of_kind(spec),
        *_of_execution(spec),
        *_of_versions(spec),
        *_of_builds(spec),
        *_of_graphs(spec),
        *_of_signature(spec),
        *_of_cache(spec),
        *_of_decoders(spec),
        *_of_generation(spec),
    )
    for field, ok, rule in rules:
        if not ok:
            raise ConfigurationError(f"{where}.{field}: must be {rule}.")
    spec.build.check(f"{where}.build")
    spec.onnx.check(f"{where}.onnx")
    spec.replicas.check(f"{where}.replicas")
    return msgspec.structs.replace(spec, name=name)


def _of_limits(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for numbers."""
    batch = spec.batch
    return (
        ("batch.max_rows", batch.max_rows >= 1, "at least 1"),
        ("batch.max_tokens", batch.max_tokens >= 1, "at least 1"),
        ("batch.bulk_max_tokens", _at_least_1(batch.bulk_max_tokens), "at least 1"),
        ("batch.max_padding", 0 <= batch.max_padding < 1, "from 0 up to, not including, 1"),
        (
            "batch.target_ms",
            batch.target_ms is None or 0 < batch.target_ms < math.inf,
            "more than 0, and finite",
        ),
        ("batch.max_wait_ms", 0 <= batch.max_wait_ms < math.inf, "0 or more, and finite"),
        ("batch.prefetch_rows", batch.prefetch_rows >= 1, "at least 1"),
        ("batch.timeout_s", 0 < batch.timeout_s < math.inf, "more than 0, and finite"),
        ("realtime.max_rows", _at_least_1(spec.realtime.max_rows), "at least 1"),
        (
            "realtime.deadline_s",
            0 < spec.realtime.deadline_s < math.inf,
            "more than 0, and finite",
        ),
        ("bulk.max_rows", _at_least_1(spec.bulk.max_rows), "at least 1"),
        ("bulk.deadline_s", 0 < spec.bulk.deadline_s < math.inf, "more than 0, and finite"),
        ("drift.sample", 0 < spec.drift.sample <= 1, "more than 0, up to 1"),
        ("drift.keep_days", 1 <= spec.drift.keep_days <= 3_650, "from 1 to 3,650"),
        ("threads", 0 <= spec.threads <= 1_024, "from 0 to 1,024"),
    )


def _of_kind(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for what goes with the task and the backend."""
    return (
        ("source", spec.backend in _WITHOUT_SOURCE or bool(spec.source), "given"),
        (
            "backend",
            (spec.backend is BackendName.ECHO or spec.task is not Task.ECHO)
            and (spec.backend is not BackendName.ECHO or spec.task in _ECHOED)
            and (spec.backend is BackendName.PYTHON) == (spec.task is Task.PYTHON)
            and (spec.backend is BackendName.PIPELINE) == (spec.task is Task.PIPELINE),
            f"one that runs the task {spec.task.value!r}",
        ),
        (
            "source",
            spec.backend not in _WITH_CLASS
            or (spec.backend is BackendName.PIPELINE and not spec.source)
            or _names_class(spec.source),
            FORM,
        ),
        (
            "steps",
            bool(spec.steps) == (spec.task is Task.PIPELINE),
            "given for a pipeline, and for no other task",
        ),
    )


def _of_versions(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for versions."""
    return (
        (
            "version",
            _VERSION.fullmatch(spec.version) is not None,
            "1 to 31 of a-z, 0-9, '.', '_' and '-', a letter or digit first",
        ),
        (
            f"versions.{spec.version}",
            spec.version not in spec.versions,
            f"named otherwise: the model's own table is the version {spec.version!r}",
        ),
        (_heaviest(spec), spec.shares[spec.version] >= 0, "less: all weights come to 100 at most"),
        *(
            (
                f"versions.{version}.shadow",
                not (told.shadow and told.weight),
                "false where there is a weight: what answers requests gets no copies of them",
            )
            for version, told in spec.versions.items()
        ),
    )


def _heaviest(spec: ModelSpec) -> str:
    """The weight with which they come to more than 100, in the order of the file."""
    sums = itertools.accumulate(told.weight for told in spec.versions.values())
    over = (version for version, total in zip(spec.versions, sums, strict=True) if total > 100)
    version = next(over, None)
    return "versions" if version is None else f"versions.{version}.weight"


def _of_builds(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for builds."""
    return (
        (
            "build",
            spec.is_built or spec.build == BuildSpec(),
            "left out: nothing is built of it",
        ),
        (
            "build",
            spec.task not in UNQUANTIZED
            or spec.build == BuildSpec(min_accuracy=spec.build.min_accuracy),
            f"left out, but for min_accuracy: a graph of {spec.task.value!r} is left as it is",
        ),
    )


def _of_cache(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for the cache."""
    wrong = spec.cache.wrong()
    return (
        (f"cache.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
        (
            "cache.enabled",
            spec.task is not Task.PIPELINE or not spec.cache.enabled,
            "left out: a pipeline answers with what its steps make, and they change without it",
        ),
        (
            "cache.semantic",
            spec.cache.semantic is None or (spec.task is Task.GENERATION and spec.cache.enabled),
            "left out, but of a model that generates texts and has a cache (`enabled = true`)",
        ),
    )


def _of_execution(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for what executes it."""
    is_torch, is_onnx = spec.backend is BackendName.TORCH, spec.backend is BackendName.ONNX
    is_vllm, wrong = spec.backend is BackendName.VLLM, spec.vllm.wrong()
    generates = is_onnx and spec.task is Task.GENERATION
    made = OF_GENERATION if generates else PRECISIONS.get(spec.backend, frozenset())
    return (
        ("device", is_device(spec.device), "`cpu`, `cuda` or `cuda:N`"),
        (
            "device",
            is_torch or spec.device == CPU,
            "left out unless the backend is 'torch'; an onnx model names `onnx.providers`",
        ),
        (
            "backend",
            not is_torch or spec.task not in UNQUANTIZED,
            f"'onnx' for the task {spec.task.value!r}: PyTorch runs models of text",
        ),
        (
            "build",
            not is_torch or spec.build == spec.build.measuring,
            "`evaluation` and `min_accuracy` at most: the rest is for ONNX graphs",
        ),
        ("torch", is_torch or spec.torch == TorchOptions(), "left out of another backend's"),
        ("onnx", is_onnx or spec.onnx == OnnxOptions(), "left out of another backend's"),
        ("vllm", is_vllm or spec.vllm == VllmOptions(), "left out of another backend's"),
        (f"vllm.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
        (
            "torch",
            spec.task is not Task.GENERATION or not spec.torch.compile,
            "left out: what generates text is not compiled",
        ),
        (
            "precision",
            not made or spec.precision in made,
            f"one that the backend {spec.backend.value!r} has for the task "
            f"{spec.task.value!r}: {', '.join(sorted(made))}",
        ),
    )


def _of_graphs(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for images and tensors."""
    wrong, is_file = spec.image.wrong(), spec.source.startswith(GRAPHS)
    images = spec.task is Task.IMAGE_CLASSIFICATION
    shapes = spec.sample.values()
    return (
        (f"image.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
        (
            "image",
            spec.image == ImageTable() or (images and is_file),
            "left out: it is for files of graphs that classify images",
        ),
        (
            "image.labels",
            bool(spec.image.labels) or not (images and is_file),
            "given: what the scores of a graph are of",
        ),
        ("source", not is_file or spec.task in UNQUANTIZED, "no file of a graph for this task"),
        (
            "precision",
            spec.task not in UNQUANTIZED
            or spec.precision is Precision.FP32
            or (images and not is_file and spec.precision is Precision.INT8),
            f"fp32 for the task {spec.task.value!r}: its graph is left as it is; or int8 "
            "for a folder of an image classifier",
        ),
        (
            "source",
            spec.task is not Task.TENSORS or is_file or spec.backend is not BackendName.ONNX,
            f"an ONNX file, `{ONNX_FILE}path/to/file.onnx`, or what is converted to one: "
            f"`{TORCHSCRIPT}path/to/file.pt`, `{SAVED_MODEL}path/to/folder`",
        ),
        (
            "sample",
            all(0 < side <= MAX_SAMPLE for shape in shapes for side in shape),
            f"shapes of 1 to {MAX_SAMPLE:,} in each dimension",
        ),
    )


def _of_signature(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for what a TorchScript file takes: an image, or what the catalog says."""
    table, wrong = spec.signature, spec.signature.wrong()
    needed = spec.task is Task.TENSORS and spec.source.startswith(TORCHSCRIPT)
    return (
        (f"signature.{wrong[0] if wrong else ''}", wrong is None, wrong[1] if wrong else ""),
        (
            "signature",
            needed or table == SignatureTable(),
            "left out: it is for the tensors of TorchScript files",
        ),
        (
            "signature",
            bool(table.inputs) or not needed,
            "given: a TorchScript file doesn't say what it takes. For each argument of `forward`, "
            'in order: `inputs = { x = "FP32[rows, 16]" }`',
        ),
    )


def _of_decoders(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for what generates text from weights."""
    generates = spec.task is Task.GENERATION
    return (
        (
            "backend",
            generates or spec.backend is not BackendName.VLLM,
            "'onnx' or 'torch' for this task: vLLM generates text",
        ),
        (
            "source",
            generates or not spec.source.startswith(GGUF_FILE),
            "no GGUF file for this task",
        ),
        (
            "build",
            not generates or spec.build == spec.build.measuring,
            "`evaluation` and `min_accuracy` at most: nothing else is for models that generate",
        ),
    )


def _of_generation(spec: ModelSpec) -> tuple[Rule, ...]:
    """Rules for how texts grow."""
    table, generates = spec.generation, spec.task is Task.GENERATION
    echoes = spec.backend is BackendName.ECHO
    return (
        ("generation", generates or table == GenerationTable(), "left out of other tasks"),
        ("generation.slots", 1 <= table.slots <= 256, "from 1 to 256"),
        ("generation.context", 0 <= table.context <= MAX_CONTEXT, f"0 to {MAX_CONTEXT:,}"),
        ("generation.timeout_s", 0 < table.timeout_s < math.inf, "more than 0, and finite"),
        ("generation.bulk_share", 0 <= table.bulk_share <= 0.5, "from 0 to 0.5"),
        ("generation.tokens_per_s", 0 <= table.tokens_per_s < math.inf, "0 or more, finite"),
        (
            "generation.tokens_per_s",
            echoes or not table.tokens_per_s,
            "left out: only an echo is told how fast to be",
        ),
        (
            "generation.draft",
            bool(table.draft) == (table.speculation is Speculation.DRAFT),
            'the name of another model with `speculation = "draft"`, and left out without',
        ),
        (
            "generation.draft",
            not table.draft or table.draft != spec.name,
            "another model: this one is no quicker than itself",
        ),
        (
            "drift.watch",
            not (generates and spec.drift.watch),
            "left out: generated text isn't watched",
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
