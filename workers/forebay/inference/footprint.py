"""What a worker of a model costs: measured in a fresh process, which loads it as a worker does.

measure ──spec──▶ python -m forebay.inference.footprint ──Footprint, or an error──▶

So it is also where a model's own code can end its process, and somebody is left to say so.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import Footprint
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.base import Model

if TYPE_CHECKING:
    from forebay.inference.steps.model import PipelineModel

HEAVY = ("torch", "transformers", "onnxruntime")
"""Libraries of which it is told whether they were imported."""

_LAST_WORDS = 300


class ProcessEnded(ArtifactError):  # noqa: N818 - reads as what has happened
    """The model's process ended without a word of ours."""


class _Asked(msgspec.Struct):
    """What the process is asked."""

    spec: ModelSpec
    steps: dict[str, ModelSpec]


class _Answer(msgspec.Struct, omit_defaults=True):
    """What the process tells: one of the two."""

    footprint: Footprint | None = None
    error: str = ""


def measure(
    spec: ModelSpec, home: Path, *, steps: Mapping[str, ModelSpec] | None = None
) -> Footprint:
    """Load and warm a model in a process of its own, and tell what that took.

    Args:
        spec: the model, built if it is of a kind that is.
        home: of the artifact store.
        steps: those of a pipeline, by name.

    Raises:
        ProcessEnded: its code, or a library's, ended the process.
        ArtifactError: it doesn't load there.
    """
    told = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "forebay.inference.footprint", str(home)],
        input=msgspec.json.encode(_Asked(spec, dict(steps or {}))),
        capture_output=True,
        check=False,
    )
    last = told.stderr.decode(errors="replace").strip().rpartition("\n")[2][:_LAST_WORDS]
    if not told.stdout:
        raise ProcessEnded(
            f"{_place(spec)}: loading {spec.name!r}, or running its samples, ended the process "
            f"{_how(told.returncode)}. Have it raise an error instead."
            + f" The last that it wrote: {last}"
            * bool(last)
        )
    answer = msgspec.json.decode(told.stdout, type=_Answer)
    if answer.footprint is None:
        raise ArtifactError(
            f"What a worker of {spec.name!r} costs can't be measured: {answer.error}"
        )
    return answer.footprint


def main() -> None:
    """Read a spec from stdin, and write what comes of it to stdout as JSON."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=_Asked)
    # What a model's own code prints is none of the answer.
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        try:
            made = _Answer(_measured(asked.spec, asked.steps, Path(sys.argv[1])))
        except Exception as error:  # whatever it is, it is told
            made = _Answer(error=str(error) or repr(error))
        answer.write(msgspec.json.encode(made))


def _measured(spec: ModelSpec, steps: Mapping[str, ModelSpec], home: Path) -> Footprint:
    began = time.perf_counter()
    importlib.import_module("forebay.inference.worker")
    from forebay.inference.backends.load import import_libraries, load
    from forebay.inference.generation.load import load as load_generator

    import_libraries([spec])
    imported = time.perf_counter()

    from forebay.inference.memory import give_back_large_blocks, peak_bytes, resident_bytes
    from forebay.storage.artifacts import ArtifactStore

    give_back_large_blocks()
    backend: Model | PipelineModel
    if spec.backend is BackendName.PYTHON:
        from forebay.inference.backends.python import PythonModel

        # Gateways are not told of it: what serves may be the code of before.
        backend = PythonModel(spec)
    elif spec.backend is BackendName.PIPELINE:
        from forebay.inference.steps import model
        from forebay.runtime.catalog import Catalog

        backend = model.PipelineModel(spec, Catalog(steps))
    elif spec.task is Task.GENERATION:
        backend = load_generator(spec, ArtifactStore(home))
    else:
        backend = load(spec, ArtifactStore(home))
    loaded = time.perf_counter()
    backend.warm()
    warm = time.perf_counter()
    return Footprint(
        backend=spec.backend.value,
        import_ms=_ms(imported - began),
        load_ms=_ms(loaded - imported),
        warm_ms=_ms(warm - loaded),
        rss_bytes=resident_bytes(),
        peak_rss_bytes=peak_bytes(),
        imported=tuple(name for name in HEAVY if name in sys.modules),
    )


def _place(spec: ModelSpec) -> str:
    return str(Path(spec.folder or ".").absolute() / spec.source) if spec.source else spec.name


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 1)


if __name__ == "__main__":
    main()
