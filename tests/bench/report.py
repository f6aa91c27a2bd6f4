"""All tables of a run, in the order of the page."""

from tests.bench import jobs
from tests.bench.efficiency import PRICE, cost_table, memory_table, process_table
from tests.bench.forebay_server import NAME
from tests.bench.goals import COMPARED, GOALS, Verdict, judge
from tests.bench.loads import FIXED_64, LOADS, Load, Section, Workload
from tests.bench.plots import closed_loads
from tests.bench.queued import curve
from tests.bench.results import Results
from tests.bench.table import Table, figure
from tests.bench.tables import (
    behind_table,
    footprint_table,
    goals_table,
    ratios_table,
    throughput_table,
)


def tables(results: Results, price: float = PRICE) -> list[Table]:
    """All tables of a run; one without a row is left out.

    Args:
        results: of a run, or all that is kept.
        price: of a core for an hour.
    """
    samples = results.samples
    found = [
        goals_table(verdicts(results)),
        throughput_table("The path alone (null model)", results, closed_loads(Workload.NULL)),
        throughput_table("MiniLM, texts of mixed length", results, closed_loads(Workload.MINILM)),
        throughput_table("MiniLM, texts of 17 words each", results, [FIXED_64]),
        throughput_table("MiniLM, texts that come again", results, _of(Section.REPEATED), _name),
        throughput_table("Open loops", results, _of(Section.OPEN), _name),
        throughput_table("SmolLM2, tokens of streams", results, closed_loads(Workload.SMOLLM2)),
        behind_table(results, NAME, LOADS),
        ratios_table([judge(goal, samples) for goal in COMPARED]),
        queued_table(results),
        *([jobs.table(results.jobs)] if results.jobs else []),
        cost_table(results, price),
        process_table(results),
        memory_table(results),
        footprint_table(results),
    ]
    return [table for table in found if table.rows]


def verdicts(results: Results) -> list[Verdict]:
    """How each goal stands."""
    return [judge(goal, results.samples, results.figures) for goal in GOALS]


def queued_table(results: Results) -> Table:
    """Rates over rows that wait."""
    rows = [
        (f"{length:,}", figure(entered), figure(left))
        for length, entered, left in curve(results.figures)
    ]
    heads = ("rows that wait", "enqueued/s", "dequeued and settled/s")
    return Table("A long line", heads, tuple(rows))


def _of(section: Section) -> list[Load]:
    return [load for load in LOADS if load.section is section]


def _name(load: Load) -> str:
    return load.name
