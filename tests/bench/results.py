"""Everything a run found, as it is kept in `.forebay/bench/latest.json`."""

from pathlib import Path

import msgspec

from tests.bench.forebay_server import ForwardPasses, WorkerMemory
from tests.bench.jobs import Measured
from tests.bench.loads import BY_NAME, Section
from tests.bench.machine import Machine
from tests.bench.stats import Figures, Sample
from tests.bench.usage import Memory


class Ran(msgspec.Struct, frozen=True):
    """When and how a section was run.

    Attributes:
        neighbours: share of the cores' time that somebody else used meanwhile, 0..1; None where
            the system doesn't tell.
    """

    section: Section
    started_at: str
    command: str
    rounds: int
    seconds: int
    neighbours: float | None = None


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
        figures: what is no load's.
        processes: memory of Forebay's processes at the end, by section.
        jobs: bare rates of queues.
        sections: those that were run in full, and when.
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
    figures: Figures = {}
    processes: dict[str, list[Memory]] = {}
    jobs: list[Measured] = []
    sections: list[Ran] = []


def merged(kept: Results, found: Results) -> Results:
    """Kept results with the sections that were run anew; what tells of the run is of the latest.

    Args:
        kept: from before.
        found: with sections that were run in full.
    """
    anew = {ran.section for ran in found.sections}

    def is_kept(sample: Sample) -> bool:
        load = BY_NAME.get(sample.load)
        return load is not None and load.section not in anew

    closed = Section.CLOSED in anew
    return msgspec.structs.replace(
        found,
        # Who runs how many forward passes, and what a worker takes, is told of the closed loops.
        passes=found.passes or kept.passes,
        memory=found.memory if closed or not kept.memory else kept.memory,
        titles={**kept.titles, **found.titles},
        samples=[*filter(is_kept, kept.samples), *found.samples],
        figures={**kept.figures, **found.figures},
        processes={**kept.processes, **found.processes},
        jobs=found.jobs or kept.jobs,
        sections=sorted(
            [*(ran for ran in kept.sections if ran.section not in anew), *found.sections],
            key=lambda ran: list(Section).index(ran.section),
        ),
    )


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
