"""The tables of a run, for the terminal and for the page alike."""

from collections.abc import Callable, Sequence

from tests.bench.goals import Standing, Verdict, path_p50_ms, redis_calls_per_request
from tests.bench.loads import HITS_64, MINILM_64, NULL_64, Load, Workload
from tests.bench.results import Results
from tests.bench.stats import Sample, Spread, rates, select, spread
from tests.bench.table import MISSING, Table, figure

WORKER_GOAL_BYTES = 200_000_000


def goals_table(verdicts: Sequence[Verdict]) -> Table:
    """Each goal with what was measured and whether that is enough, and what stands beside it."""
    rows = []
    for verdict in verdicts:
        told = f"{verdict.standing} ({verdict.note})" if verdict.note else str(verdict.standing)
        goal = verdict.comparison.goal or MISSING
        rows.append((verdict.comparison.title, goal, *_valued(verdict), told))
    return Table("Goals", ("", "goal", "measured", "spread", ""), tuple(rows))


def ratios_table(verdicts: Sequence[Verdict]) -> Table:
    """Ratios that have no goal."""
    rows = [(v.comparison.title, *_valued(v), v.note) for v in verdicts if v.value is not None]
    return Table("Other ratios", ("Forebay's throughput", "ratio", "spread", ""), tuple(rows))


def throughput_table(
    title: str,
    results: Results,
    loads: Sequence[Load],
    label: Callable[[Load], str] = lambda load: str(load.concurrency),
) -> Table:
    """Throughput, latency and failures of each contender, load by load.

    Args:
        title: of the table.
        results: of the run.
        loads: which, in the order of the table.
        label: what is told of a load; as it is, its concurrency.
    """
    rows = []
    for load in loads:
        for name, its_title in results.titles.items():
            samples = select(results.samples, name, load.name)
            throughput = spread(rates(samples).values())
            if throughput is None:
                continue
            failed = sum(sample.measured.failed for sample in samples)
            rows.append(
                (
                    its_title,
                    label(load),
                    figure(throughput.median),
                    _range(throughput),
                    _latency(samples, lambda sample: sample.measured.p50_ms),
                    _latency(samples, lambda sample: sample.measured.p99_ms),
                    f"{failed:,}",
                )
            )
    return Table(title, ("", "c", "per s", "spread", "p50 ms", "p99 ms", "failed"), tuple(rows))


def behind_table(results: Results, ours: str, loads: Sequence[Load]) -> Table:
    """Where somebody else does more than Forebay does, bare loops left out.

    Args:
        results: of the run.
        ours: Forebay's name.
        loads: which, in the order of the table.
    """
    rows = []
    for load in loads:
        own = spread(rates(select(results.samples, ours, load.name)).values())
        for name, its_title in results.titles.items():
            if own is None or name.startswith((ours, "bare")) or load.open_share is not None:
                continue
            theirs = spread(rates(select(results.samples, name, load.name)).values())
            if theirs is not None and theirs.median > own.median:
                times = f"{theirs.median / own.median:.2f}×"
                rows.append(
                    (load.name, its_title, figure(theirs.median), figure(own.median), times)
                )
    heads = ("load", "who", "per s", "Forebay", "")
    return Table("Where we lose", heads, tuple(rows))


def footprint_table(results: Results) -> Table:
    """Memory of the workers, and what one request costs Redis."""
    rows = []
    for worker in results.memory:
        met = Standing.MET if worker.peak_bytes <= WORKER_GOAL_BYTES else Standing.NOT_MET
        goal = f"goal ≤ {WORKER_GOAL_BYTES / 1e6:.0f} MB: {met}"
        if worker.model == Workload.SMOLLM2:  # weights and the slots' keys and values: no goal
            goal = "no goal"
        rows.append(
            (
                f"peak memory of the worker, {worker.model}",
                f"{worker.peak_bytes / 1e6:,.0f} MB",
                goal,
            )
        )
    for load in (NULL_64, MINILM_64, HITS_64):
        made = redis_calls_per_request(results.samples, load)
        if made:
            often = sorted(made.items(), key=lambda item: -item[1])[:6]
            told = ", ".join(f"{name} {count:.2f}" for name, count in often if count >= 0.005)
            rows.append(
                (f"Redis commands for one request, {load.name}", f"{sum(made.values()):.1f}", told)
            )
    path = path_p50_ms(results.samples)
    if path is not None:
        rows.append(("p50 of the path by itself at c=1", f"{figure(path.median)} ms", _range(path)))
    return Table("What Forebay takes", ("", "", ""), tuple(rows))


def _range(value: Spread) -> str:
    return f"{figure(value.low)}–{figure(value.high)}"


def _valued(verdict: Verdict) -> tuple[str, str]:
    if verdict.value is None:
        return MISSING, MISSING
    return f"{figure(verdict.value.median)}{verdict.comparison.unit}", _range(verdict.value)


def _latency(samples: Sequence[Sample], pick: Callable[[Sample], float | None]) -> str:
    known = [value for sample in samples if (value := pick(sample)) is not None]
    found = spread(known)
    return MISSING if found is None else figure(found.median)
