"""Everything a run found, as it is kept in `.forebay/bench/latest.json`."""

from pathlib import Path

import msgspec

from tests.bench.forebay_server import ForwardPasses, WorkerMemory
from tests.bench.machine import Machine
from tests.bench.stats import Sample


class Results(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        started_at: date and time, UTC.
        command: what reproduces it.
        partial: some contenders or loads were left out, by `--quick` or `--only`.
        titles: title of each contender, in the order of the tables.
        neighbours: share of the cores' time that somebody else used meanwhile, 0..1; None where
            the system doesn't tell.
        threads: threads of one forward pass, for the peers and for bare loops that do not say
            otherwise in their titles.
        passes: how Forebay's worker runs the model; None if Forebay took no part.
        max_rows: rows in one batch, for every system that batches.
        notes: what the reader has to know about this run.
    """

    started_at: str
    command: str
    partial: bool
    rounds: int
    seconds: int
    threads: int
    passes: ForwardPasses | None
    max_rows: int
    artifact: str
    machine: Machine
    titles: dict[str, str]
    samples: list[Sample]
    memory: list[WorkerMemory] = []
    neighbours: float | None = None
    notes: list[str] = []


def write(results: Results, path: Path) -> None:
    """Write the results as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read(path: Path) -> Results:
    """Read them back.

    Raises:
        OSError: no such file.
        msgspec.MsgspecError: it is not one of ours.
    """
    return msgspec.json.decode(path.read_bytes(), type=Results)
