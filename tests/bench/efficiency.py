"""What a request costs: CPU time by process, memory, and money at a price of a core."""

from collections.abc import Sequence

from tests.bench import forebay_server
from tests.bench.loads import FIXED_64, HITS_64, MINILM_1, MINILM_64, NULL_1, NULL_64, Load
from tests.bench.results import Results
from tests.bench.stats import Sample, rates, select, spread
from tests.bench.table import MISSING, Table, figure

PRICE = 0.04
"""Dollars for a core and an hour, about what clouds ask."""

LEAST_US = 1.0
"""What takes less of a request's CPU time than this is not told apart."""


def cpu_us(samples: Sequence[Sample]) -> dict[str, float]:
    """CPU time of one request by process, in microseconds; empty where it was not watched."""
    watched = [sample for sample in samples if sample.cpu_s]
    sent = sum(sample.measured.sent for sample in watched)
    if not sent:
        return {}
    names = sorted({name for sample in watched for name in sample.cpu_s})
    return {name: 1e6 * sum(s.cpu_s.get(name, 0.0) for s in watched) / sent for name in names}


def cost(rate: float, *, cores: int, price: float) -> float:
    """Price of a million answers.

    Args:
        rate: answers a second of the whole machine.
        cores: how many it has, all of them paid for.
        price: of a core for an hour.
    """
    return 1e6 / rate * cores * price / 3600


def cost_table(results: Results, price: float) -> Table:
    """CPU time of a request, and the price of a million, contender by contender."""
    rows = []
    for load in (NULL_64, MINILM_64):
        for name, title in results.titles.items():
            samples = select(results.samples, name, load.name)
            rate = spread(rates(samples).values())
            if rate is None or not rate.median:
                continue
            used = cpu_us(samples)
            money = cost(rate.median, cores=results.machine.cores, price=price)
            rows.append(
                (
                    title,
                    load.name,
                    figure(sum(used.values())) if used else MISSING,
                    f"{money:.4f}" if money < 0.1 else f"{money:.2f}",
                )
            )
    heads = ("", "load", "CPU µs a request", f"for a million, at {price:g} a core-hour")
    return Table("What a request costs", heads, tuple(rows))


def process_table(results: Results) -> Table:
    """CPU time of a request of Forebay's by process, load by load."""
    rows = []
    for load in (NULL_1, NULL_64, MINILM_1, MINILM_64, FIXED_64, HITS_64):
        used = cpu_us(select(results.samples, forebay_server.NAME, load.name))
        if used:
            rows.append((load.name, figure(sum(used.values())), _parts(used)))
    return Table("CPU of one request of Forebay's, µs", ("load", "all", "by process"), tuple(rows))


def memory_table(results: Results) -> Table:
    """Memory of Forebay's processes at the end of a section."""
    rows = [
        (one.process, section, f"{one.rss / 1e6:,.0f}", f"{one.pss / 1e6:,.0f}")
        for section, processes in results.processes.items()
        for one in processes
    ]
    return Table(
        "Memory of Forebay's processes, MB",
        ("", "at the end of", "resident", "its share of what is shared"),
        tuple(rows),
    )


def latency_by(results: Results, contender: str, loads: Sequence[Load]) -> list[tuple[int, float]]:
    """Median p99 in milliseconds at each concurrency at which it was measured."""
    found = []
    for load in loads:
        samples = select(results.samples, contender, load.name)
        value = spread(s.measured.p99_ms for s in samples if s.measured.p99_ms is not None)
        if value is not None:
            found.append((load.concurrency, value.median))
    return sorted(found)


def throughput_by(
    results: Results, contender: str, loads: Sequence[Load]
) -> list[tuple[int, float]]:
    """Median throughput at each concurrency at which it was measured."""
    found = []
    for load in loads:
        value = spread(rates(select(results.samples, contender, load.name)).values())
        if value is not None:
            found.append((load.concurrency, value.median))
    return sorted(found)


def _parts(used: dict[str, float]) -> str:
    often = sorted(used.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {figure(value)}" for name, value in often if value >= LEAST_US)
