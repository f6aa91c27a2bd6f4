"""A worker process whose rows may raise, crash it, or hold it up: `python -m tests.chaos.odd`.

The worker is the real one, with the real settings and catalog; only its backend is of ours. It
echoes, and logs each batch before it runs, so that what ran can be counted whatever died.
"""

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Value, ValueRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.loading import Loader
from forebay.inference.worker import run
from forebay.runtime import catalog, settings
from forebay.runtime.telemetry import setup_logging

MODEL = "echo"
POISON = "poison"
"""A row that begins so makes the backend raise."""
CRASH = "crash"
"""A row that begins so ends the process by a segmentation fault."""
HOLD = "hold"
"""A row `hold FILE` takes until there is such a file."""


class Batch(msgspec.Struct, frozen=True):
    """A batch that was begun.

    Attributes:
        worker: name of the worker, as its scene has it.
        at: Unix time.
        rows: values of its rows.
    """

    worker: str
    at: float
    rows: tuple[str, ...]


class Odd:
    """Echoes after a while, but for poison, crash and hold.

    Args:
        name: told as the version, so that a result shows which worker it is of.
        run_s: time of one forward pass.
        log: has a line for each batch.
    """

    streams = 1

    def __init__(self, name: str, run_s: float, log: Path) -> None:
        self.version = name
        self._run_s = run_s
        self._log = log

    def warm(self) -> None:
        """Nothing to warm."""

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Every row passes."""
        return [PreparedRow(1, row.json) for row in rows if isinstance(row, ValueRow)]

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """Log the batch, then do as its rows say."""
        values = tuple(str(msgspec.json.decode(row.data)) for row in rows)
        with self._log.open("ab", buffering=0) as log:
            log.write(msgspec.json.encode(Batch(self.version, time.time(), values)) + b"\n")
        if any(value.startswith(POISON) for value in values):
            raise ValueError("poison")
        if any(value.startswith(CRASH) for value in values):
            ctypes.string_at(0)
        time.sleep(self._run_s)
        for value in values:
            if value.startswith(HOLD):
                _wait_for(Path(value.split(" ", 1)[1]))
        return [Value(row.data) for row in rows]

    def close(self) -> None:
        """Nothing to free."""


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def read_batches(log: Path) -> list[Batch]:
    """All batches that were begun, in order."""
    lines = log.read_bytes().splitlines() if log.exists() else []
    return [msgspec.json.decode(line, type=Batch) for line in lines]


def main() -> None:
    """Work until told to stop, or to die."""
    name, run_s, log = sys.argv[1:]
    chosen = settings.load().settings
    known = catalog.read(Path(chosen.models_file))
    spec = known.find(MODEL)
    setup_logging(chosen, f"odd:{name}:{os.getpid()}")
    odd = Odd(name, float(run_s), Path(log))
    run(chosen, [spec], known, Loader(chosen.home, known, opens=lambda _: odd))


if __name__ == "__main__":
    main()
