"""Which builds and which serving settings there are to choose from.

A candidate is a `ModelSpec`: that of the catalog with other values in the fields of `FIELDS`.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import msgspec

from forebay.contract.errors import ConfigurationError, InvalidInput
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.recipe import Fuse
from forebay.contract.rows import Task
from forebay.contract.versions import model_of

Path = tuple[str, ...]

BUILD_FIELDS: tuple[Path, ...] = (("precision",), ("build", "fuse"))
"""What makes another artifact."""

SERVING_FIELDS: tuple[Path, ...] = (
    ("threads",),
    ("batch", "max_rows"),
    ("batch", "max_tokens"),
    ("batch", "max_padding"),
)
"""What serves the same artifact another way."""

TASKS = (
    Task.EMBEDDING,
    Task.CLASSIFICATION,
    Task.RERANKING,
    Task.TOKEN_CLASSIFICATION,
    Task.ZERO_SHOT,
    Task.PYTHON,
)
"""Those whose rows a line of a file can say."""

MAX_ROWS = (1, 4, 8, 16, 32, 64)
MAX_TOKENS = (128, 256, 512, 1_024, 2_048, 4_096, 16_384)
MAX_PADDING = (0.05, 0.15, 0.3, 0.6)


class Lengths(msgspec.Struct, frozen=True):
    """The shortest and the longest row of the traffic, as the backend counts: tokens for text."""

    shortest: int
    longest: int


def fields(spec: ModelSpec) -> tuple[Path, ...]:
    """What there is to settle of a model."""
    return (*BUILD_FIELDS, *SERVING_FIELDS) if spec.is_built else (("batch", "max_rows"),)


def value(spec: ModelSpec, field: Path) -> Any:
    """What a spec says in a field."""
    found: Any = spec
    for name in field:
        found = getattr(found, name)
    return found


def told(field: Path, one: Any) -> str:
    """A build's setting in a few words; empty where it is what is taken for granted."""
    if field == ("build", "fuse"):
        return {Fuse.OFF: "", Fuse.ON: "fused"}.get(one, "fused if faster")
    return str(one)


def check(spec: ModelSpec) -> None:
    """Make sure that there is anything to tune.

    Raises:
        InvalidInput: there isn't.
    """
    if spec.backend is BackendName.ECHO:
        raise InvalidInput(
            f"{spec.name!r} echoes what it is sent: there is no model in it to be tuned."
        )
    if spec.task not in TASKS:
        raise InvalidInput(
            f"{spec.name!r} has the task {str(spec.task)!r}; what can be tuned is models of "
            f"{', '.join(TASKS)}."
        )


def builds(spec: ModelSpec) -> list[ModelSpec]:
    """The specs of all artifacts there may be, the catalog's own first."""
    if not spec.is_built:
        return [spec]
    # Only in a graph of operators is there anything to be fused ahead of time.
    fusions = (Fuse.OFF, Fuse.ON) if spec.backend is BackendName.ONNX else (spec.build.fuse,)
    made = [
        msgspec.structs.replace(
            spec, precision=precision, build=msgspec.structs.replace(spec.build, fuse=fuse)
        )
        for fuse, precision in product(fusions, Precision)
    ]
    return [spec, *(other for other in made if other != spec and _is_allowed(other))]


def serving(spec: ModelSpec, *, cores: int) -> list[ModelSpec]:
    """One build with all serving settings there are, its own first.

    Args:
        spec: the build.
        cores: of this machine.
    """
    batch = spec.batch
    threads = _threads(spec, cores) if spec.is_built else [spec.threads]
    combined = (
        msgspec.structs.replace(
            spec,
            threads=each,
            batch=msgspec.structs.replace(
                batch, max_rows=rows, max_tokens=tokens, max_padding=padding
            ),
        )
        for each, rows, tokens, padding in product(
            threads,
            # More than a replica holds can never be in one batch.
            sorted({batch.max_rows, *(n for n in MAX_ROWS if n <= batch.prefetch_rows)}),
            sorted({batch.max_tokens, *MAX_TOKENS}),
            sorted({batch.max_padding, *MAX_PADDING}),
        )
    )
    return [spec, *(other for other in combined if other != spec)]


def arms(
    made: Sequence[ModelSpec], *, cores: int, lengths: Lengths, count: int, seed: int = 0
) -> list[ModelSpec]:
    """The candidates to try, the most telling first.

    First come the catalog's own settings, then every build with them, then every build with every
    number of threads, and then whatever chance picks. What makes the same batches of this traffic
    as another does is left out.

    Args:
        made: the builds there are, the catalog's own first.
        cores: of this machine.
        lengths: of the traffic.
        count: no more than so many.
        seed: of what chance picks.
    """
    everything = [serving(build, cores=cores) for build in made]
    rest = [spec for of_build in everything for spec in of_build]
    random.Random(seed).shuffle(rest)  # noqa: S311 - no secret
    ordered: Iterator[ModelSpec] = iter(
        [
            *made,
            *(spec for group in everything for spec in group if spec.batch == made[0].batch),
            *rest,
        ]
    )
    found: dict[Any, ModelSpec] = {}
    for spec in ordered:
        if len(found) == count:
            break
        found.setdefault(_batches(spec, lengths), spec)
    return list(found.values())


def _is_allowed(spec: ModelSpec) -> bool:
    """Whether the catalog could say so: not every backend has every precision."""
    try:
        checked(spec, model_of(spec.name))
    except ConfigurationError:
        return False
    return True


def _threads(spec: ModelSpec, cores: int) -> list[int]:
    """1, 2, 4 and so on up to all cores, which the catalog may call 0."""
    most = spec.threads if spec.threads == 0 or spec.threads > cores else cores
    found = {1 << power for power in range(cores.bit_length()) if 1 << power < cores} | {most}
    return sorted({*found, spec.threads})


def _batches(spec: ModelSpec, lengths: Lengths) -> tuple[object, ...]:
    """Equal for two specs that make the same batches of rows of these lengths."""
    batch = spec.batch
    rows = min(batch.max_rows, max(1, batch.max_tokens // max(1, lengths.shortest)))
    tokens = min(batch.max_tokens, rows * lengths.longest)
    uniform = lengths.shortest == lengths.longest
    return (
        *(value(spec, field) for field in BUILD_FIELDS),
        spec.threads,
        rows,
        tokens,
        None if uniform or rows == 1 else batch.max_padding,
    )
