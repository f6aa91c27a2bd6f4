"""A picture of one trace: what came, how many replicas each policy had, what waited."""

from collections.abc import Sequence
from typing import Final

from forebay.autoscaler.simulation.comparison import Line
from forebay.autoscaler.simulation.traces import Trace
from forebay.runtime import svg

WIDTH: Final = 900
HEIGHT: Final = 860
COLOURS: Final = ("#0b6e4f", "#c1440e", "#e3a008", "#3457d5", "#8b5cf6", "#6b7280")
POINTS: Final = 600
"""Of a line; of longer stretches the highest is drawn."""


def draw(trace: Trace, lines: Sequence[Line]) -> str:
    """The picture, as SVG.

    Args:
        trace: that was replayed.
        lines: what came of it.
    """
    title = f"{trace.name}: {trace.total:,} rows"
    parts: list[object] = [svg.text(24, 30, title, size=16, weight="600")]
    for number, line in enumerate(lines):
        left, top = 24 + number % 2 * 420, 54 + number // 2 * 20
        parts.append(
            f'<rect x="{left}" y="{top - 10}" width="14" height="10" fill="{_colour(number)}"/>'
        )
        told = f"{line.outcome.scaler}: {line.hours:.2f} replica-hours, p99 {line.p99_s:,.1f} s"
        parts.append(svg.text(left + 20, top, told))
    parts.append(_panel("what comes", "rows/s", [trace.rows], 150, first=len(COLOURS) - 1))
    parts.append(_panel("replicas", "", [line.outcome.replicas for line in lines], 390))
    parts.append(_panel("rows that wait or run", "", [line.outcome.rows for line in lines], 630))
    return svg.picture(WIDTH, HEIGHT, title, parts)


def _panel(
    title: str, unit: str, series: Sequence[Sequence[int]], top: int, *, first: int = 0
) -> svg.Panel:
    seconds = max(map(len, series))
    highest = max(max(one, default=0) for one in series)
    x = svg.Axis(0, max(seconds / 60, 1e-9), 70, WIDTH - 30)
    y = svg.Axis(0, max(highest * 1.05, 1), top + 170, top + 20)
    panel = svg.Panel(title, x, y, x_name="minutes", y_name=unit)
    # Forebay's is drawn last, over the others.
    for number in reversed(range(len(series))):
        panel.line(_points(series[number]), colour=_colour(first + number))
    return panel


def _points(values: Sequence[int]) -> list[tuple[float, float]]:
    step = max(len(values) // POINTS, 1)
    return [(at / 60, float(max(values[at : at + step]))) for at in range(0, len(values), step)]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
