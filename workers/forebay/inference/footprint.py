"""What a worker of a model costs: measured in a fresh process, which loads it as a worker does.

measure ──spec──▶ python -m forebay.inference.footprint ──Footprint──▶
"""

import contextlib
import importlib
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import Footprint
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.base import Model

HEAVY = ("torch", "transformers", "onnxruntime")
"""Libraries of which it is told whether they were imported."""

_LAST_WORDS = 300


def measure(spec: ModelSpec, home: Path) -> Footprint:
    """Load and warm a model in a process of its own, and tell what that took.

    Args:
        spec: the model, built if it is of a kind that is.
        home: of the artifact store.

    Raises:
        ArtifactError: it doesn't load there.
    """
    told = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "forebay.inference.footprint", str(home)],
        input=msgspec.json.encode(spec),
        capture_output=True,
        check=False,
    )
    if told.returncode:
        last = told.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ArtifactError(
            f"What a worker of {spec.name!r} costs can't be measured: {last[:_LAST_WORDS]}"
        )
    return msgspec.json.decode(told.stdout, type=Footprint)


def main() -> None:
    """Read a spec from stdin, and write its `Footprint` to stdout as JSON."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ModelSpec)
    answer = sys.stdout
    # What a model's own code prints is none of the answer.
    with contextlib.redirect_stdout(sys.stderr):
        made = _measured(spec, Path(sys.argv[1]))
    answer.write(msgspec.json.encode(made).decode())


def _measured(spec: ModelSpec, home: Path) -> Footprint:
    began = time.perf_counter()
    importlib.import_module("forebay.inference.worker")
    from forebay.inference.backends.load import import_libraries, load
    from forebay.inference.generation.load import load as load_generator

    import_libraries([spec])
    imported = time.perf_counter()

    from forebay.inference.memory import give_back_large_blocks, peak_bytes, resident_bytes
    from forebay.storage.artifacts import ArtifactStore

    give_back_large_blocks()
    backend: Model
    if spec.backend is BackendName.PYTHON:
        from forebay.inference.backends.python import PythonModel

        # Gateways are not told of it: what serves may be the code of before.
        backend = PythonModel(spec)
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


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 1)


if __name__ == "__main__":
    main()
