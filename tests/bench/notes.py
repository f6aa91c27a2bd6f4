"""What a reader has to know about the runs that a page is of."""

from itertools import groupby
from typing import Final

from tests.bench import machine
from tests.bench.results import Results

BUSY: Final = 0.05
"""Share of the cores' time from which on somebody else's work is told."""


def notes(results: Results) -> list[str]:
    """Unequal libraries, sections that were measured on a busy machine, failures."""
    told = [f"{difference}." for difference in machine.differing(results.machine)]
    busy = [ran for ran in results.sections if (ran.neighbours or 0) > BUSY]
    for share, rans in groupby(busy, key=lambda ran: ran.neighbours):
        names = ", ".join(f"`{ran.section}`" for ran in rans)
        told.append(
            f"{names}: the machine was busy with something else meanwhile, {share:.0%} of its "
            "cores' time, so these figures are lower and vary more than they should."
        )
    for name, title in results.titles.items():
        failed = sum(s.measured.failed for s in results.samples if s.contender == name)
        if failed:
            told.append(f"{title}: {failed:,} requests failed.")
    return told
