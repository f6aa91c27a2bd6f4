"""The terminal's side of a tuning: how far it is, what was found, what was chosen."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forebay.cli.build import leave_reference
from forebay.cli.show import print_table
from forebay.contract.errors import ForebayError
from forebay.contract.model import ModelSpec
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore
from forebay.tune import run as tuning
from forebay.tune import settings as chosen_settings
from forebay.tune import space, traffic
from forebay.tune.goals import Goals, parse_slo
from forebay.tune.outcome import MB, Found, Outcome
from forebay.tune.run import Done, Wanted
from forebay.tune.search import Told

FEW_ROWS = 1_000
"""A p99 of fewer rows than this rests on less than ten of them."""


UNSTEADY = 0.3
"""On an idle machine, rates of one candidate are apart by less."""


class Asked(msgspec.Struct, frozen=True):
    """The options of the command."""

    slo: str | None
    min_accuracy: float | None
    max_memory_mb: float | None
    cost_per_hour: float | None
    minutes: float
    data: Path | None
    write: bool
    everything: bool
    raw: bool


def run(settings: Settings, spec: ModelSpec, asked: Asked) -> None:
    """Tune a model, print what was found, and write the choice down.

    Raises:
        InvalidInput: an option is wrong, or there is nothing to tune.
        ForebayError: nothing meets the goals; the message says what came nearest.
        KeyboardInterrupt: Ctrl-C came; what was known by then is printed.
    """
    space.check(spec)
    rows = traffic.own(spec) if asked.data is None else traffic.read(asked.data, spec)
    wanted = Wanted(
        goals=Goals(
            parse_slo(asked.slo) if asked.slo is not None else (),
            asked.min_accuracy,
            asked.max_memory_mb,
        ),
        rows=rows,
        origin="the build's own texts" if asked.data is None else str(asked.data),
        seconds=60 * asked.minutes,
        cost_per_hour=asked.cost_per_hour,
    )
    with _progress(spec.name) as tell:
        done = tuning.tune(spec, wanted, home=settings.home, tell=tell)
    outcome = done.outcome
    if asked.raw:
        print(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode(), flush=True)
    else:
        _print(done, everything=asked.everything)
    if done.chosen is not None and not outcome.interrupted:
        if asked.write:
            tuning.apply(done, Path(settings.models_file), home=settings.home)
            leave_reference(done.chosen.spec, ArtifactStore(settings.home))
        tuning.note(done, home=settings.home)
        if not asked.raw:
            _print_settings(settings, done, written=asked.write)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if done.chosen is None:
        raise ForebayError(outcome.why)


@contextmanager
def _progress(model: str) -> Generator[Callable[[Told], None]]:
    """A bar on stderr; where that is no terminal, a line for each thing begun."""
    if not sys.stderr.isatty():
        last = ""

        def line(told: Told) -> None:
            nonlocal last
            if told.what != last:
                best = f"; best so far {told.best}" if told.best else ""
                print(f"tuning {model}: {told.stage}: {told.what}{best}", file=sys.stderr)
            last = told.what

        yield line
        return
    columns = (
        TextColumn(f"tuning {model}:"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=1.0)

        def move(told: Told) -> None:
            best = f" | best so far {told.best}" if told.best else ""
            bars.update(bar, completed=told.share, description=f"{told.what}{best}")

        yield move


def _print(done: Done, *, everything: bool) -> None:
    outcome = done.outcome
    if outcome.traffic is not None:
        told = outcome.traffic
        print(
            f"{outcome.model} on {outcome.machine}, {told.rows:,} rows of length {told.shortest} "
            f"to {told.longest} ({told.origin}), {outcome.seconds:.0f} s; asked: {outcome.goals}"
        )
    shown = [one for one in outcome.found if everything or _is_shown(outcome, one)]
    if shown:
        print_table(_columns(outcome), [_row(outcome, one) for one in shown])
    hidden = len(outcome.found) - len(shown)
    if hidden:
        print(f"{hidden} more were tried and are worse, or no better; --all shows them.")
    for left in outcome.left_out:
        print(f"Left out: {left.build}. {left.why}")
    if outcome.is_late:
        print("Time ran out before all was measured: give it more with --minutes.")
    few = min((p.rows for one in shown if one.is_final for p in one.points), default=FEW_ROWS)
    if outcome.goals.latency and few < FEW_ROWS:
        print(f"Some percentiles rest on {few:,} rows only: more --minutes make them steadier.")
    unsteady = [one for one in shown if one.is_final and one.unsteadiness > UNSTEADY]
    if unsteady:
        most = max(one.unsteadiness for one in unsteady)
        print(
            f"Rates were apart by up to {100 * most:.0f} %: something else is busy on this "
            "machine. Tune when it is not."
        )
    if outcome.chosen is not None:
        print(f"Chosen: {outcome.why}")
        if outcome.cost_per_million is not None:
            print(
                f"A million rows cost {outcome.cost_per_million:.3g} at "
                f"{outcome.cost_per_hour:g} an hour, fully loaded up to the goals."
            )
    print(f"Plot: {done.folder / tuning.PLOT}")


def _is_shown(outcome: Outcome, one: Found) -> bool:
    is_chosen = outcome.chosen is not None and outcome.found[outcome.chosen] is one
    # Where nothing meets the goals, all that came to the end tells what is in the way.
    missed = outcome.chosen is None and one.is_final
    return one.on_front or one.is_current or is_chosen or missed


def _columns(outcome: Outcome) -> list[str]:
    rate = "rows/s at goal" if outcome.goals.latency else "rows/s"
    columns = ["", "settings", "streams", "accuracy", "saturated", rate, "p50 ms", "p99 ms",
               "MB", "artifact MB"]  # fmt: skip
    return [*columns, "cost/million"] if outcome.cost_per_hour is not None else columns


def _row(outcome: Outcome, one: Found) -> list[str]:
    from forebay.tune.figures import cost_per_million

    is_chosen = outcome.chosen is not None and outcome.found[outcome.chosen] is one
    marks = [
        mark
        for mark, is_so in (
            ("chosen", is_chosen),
            ("now", one.is_current),
            ("failed", bool(one.failed)),
            ("misses", one.is_final and one.rows_s is None),
            ("beaten", one.rows_s is not None and not one.on_front and not is_chosen),
            ("tried", not one.is_final and not one.failed),
        )
        if is_so
    ]
    late = one.latency.latency_ms if one.latency else {}
    cells = [
        ", ".join(marks),
        one.label,
        str(one.streams or "-"),
        _number(one.accuracy, ".5f"),
        _spread(one),
        _number(one.rows_s, ".0f"),
        _number(late.get("p50"), ".1f"),
        _number(late.get("p99"), ".1f"),
        _number(one.memory_mb or None, ".0f"),
        _number(one.bytes / MB or None, ".0f"),
    ]
    if outcome.cost_per_hour is not None:
        cost = cost_per_million(outcome.cost_per_hour, one.rows_s) if one.rows_s else None
        cells.append(_number(cost, ".3g"))
    return cells


def _spread(one: Found) -> str:
    if one.saturated is None:
        return "-"
    return f"{one.saturated.median:.0f} ({one.saturated.low:.0f}–{one.saturated.high:.0f})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _print_settings(settings: Settings, done: Done, *, written: bool) -> None:
    assert done.chosen is not None
    if written:
        print(
            f"Written to {settings.models_file}, and its artifact serves: workers take both at "
            "their next start."
        )
        return
    print(f"For {settings.models_file} (or run this again with --write):\n")
    print(chosen_settings.snippet(done.chosen.spec), end="")
    if done.needs_build:
        print(f"\nThen run `forebay models build {done.outcome.model}`.")
