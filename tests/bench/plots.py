"""The page's pictures, PNG files drawn by matplotlib, which is loaded only here."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import queued
from tests.bench.efficiency import latency_by, throughput_by
from tests.bench.loads import LOADS, MINILM_64, NULL_64, Kind, Load, Section, Workload
from tests.bench.results import Results
from tests.bench.stats import rates, select, spread

WIDE, HIGH = 7.0, 3.6
"""Inches."""

DPI = 110
OURS, OTHERS = "#0b6e4f", "#9aa5b1"


class Drawn(msgspec.Struct, frozen=True):
    """A picture, and what it shows."""

    file: str
    title: str


def draw(results: Results, folder: Path) -> list[Drawn]:
    """Draw what the results have enough of; older pictures of the same are replaced.

    Args:
        results: all that is kept.
        folder: for the pictures, made if it isn't there.

    Raises:
        ImportError: there is no matplotlib, which the `dev` extra brings.
    """
    import_module("matplotlib").use("Agg")
    plt = import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for workload, load, title in (
        (Workload.NULL, NULL_64, "the path alone"),
        (Workload.MINILM, MINILM_64, "MiniLM"),
    ):
        if bars(plt, results, load, folder / f"bench-{load.name}.png"):
            drawn.append(Drawn(f"bench-{load.name}.png", f"Throughput at c=64, {title}"))
        if growth(plt, results, closed_loads(workload), folder / f"bench-{workload}-growth.png"):
            drawn.append(
                Drawn(f"bench-{workload}-growth.png", f"Throughput and p99 over c, {title}")
            )
    if waiting(plt, results, folder / "bench-queued.png"):
        drawn.append(Drawn("bench-queued.png", "Rows a second in and out, over rows that wait"))
    return drawn


def closed_loads(workload: Workload) -> list[Load]:
    """Loads of a workload that differ in their concurrency only, fewest connections first."""
    found = [
        load
        for load in LOADS
        if load.workload is workload
        and load.section in (Section.CLOSED, Section.GROWTH, Section.GENERATION)
        and load.kind is Kind.MIXED
    ]
    return sorted(found, key=lambda load: load.concurrency)


def bars(plt: Any, results: Results, load: Load, path: Path) -> bool:
    """Everybody's throughput under one load; False if nobody was measured."""
    found = []
    for name, title in results.titles.items():
        rate = spread(rates(select(results.samples, name, load.name)).values())
        if rate is not None:
            found.append((rate.median, title, name.startswith("forebay")))
    if not found:
        return False
    found.sort()
    figure, axes = plt.subplots(figsize=(WIDE, 0.6 + 0.3 * len(found)))
    axes.barh(
        [title for _, title, _ in found],
        [rate for rate, _, _ in found],
        color=[OURS if ours else OTHERS for _, _, ours in found],
    )
    axes.set_xlabel("answered right, per second")
    save(plt, figure, path)
    return True


def growth(plt: Any, results: Results, loads: Sequence[Load], path: Path) -> bool:
    """Throughput and p99 over concurrency; False if nobody was measured at three or more."""
    lines = [
        (title, throughput_by(results, name, loads), latency_by(results, name, loads))
        for name, title in results.titles.items()
    ]
    lines = [line for line in lines if len(line[1]) > 2 and len(line[2]) > 2]
    if not lines:
        return False
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, HIGH))
    for title, throughput, latency in lines:
        left.plot(*zip(*throughput, strict=True), marker="o", label=title)
        right.plot(*zip(*latency, strict=True), marker="o", label=title)
    for axes, told in ((left, "answered right, per second"), (right, "p99, ms")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("connections")
        axes.set_ylabel(told)
        axes.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize="small")
    save(plt, figure, path)
    return True


def waiting(plt: Any, results: Results, path: Path) -> bool:
    """Rates over rows that wait; False if they were not measured."""
    found = queued.curve(results.figures)
    if not found:
        return False
    figure, axes = plt.subplots(figsize=(WIDE, HIGH))
    lengths = [length for length, _, _ in found]
    axes.plot(lengths, [rate for _, rate, _ in found], marker="o", label="enqueued")
    axes.plot(lengths, [rate for _, _, rate in found], marker="o", label="dequeued and settled")
    axes.set_xscale("symlog", linthresh=1_000)
    axes.set_xlabel("rows that wait")
    axes.set_ylabel("rows per second")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    save(plt, figure, path)
    return True


def save(plt: Any, figure: Any, path: Path) -> None:
    """Write a figure to a PNG file, and forget it."""
    figure.tight_layout()
    # Without the program's version, so that a picture of the same figures is the same file.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
