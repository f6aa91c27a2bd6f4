"""A picture of a tuning: what accuracy costs in rows a second, and how latency grows with load."""

from forebay.runtime import svg
from forebay.runtime.svg import Axis, Panel
from forebay.tune.goals import Goals
from forebay.tune.outcome import Found, Outcome

WIDTH, HEIGHT = 960, 460
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's: they differ for people who see no red or green."""

OTHER = "#bbb"
_TOP, _BOTTOM = 76, 330


def draw(outcome: Outcome) -> str:
    """The picture as SVG.

    On the left accuracy and rate of each candidate, those on the front filled and joined; on the
    right the highest percentile that was asked for (or p99) of the finalists at each rate.
    """
    finals = [one for one in outcome.found if one.is_final and not one.failed]
    title = f"Tuning of {outcome.model}: {outcome.goals}"
    parts: list[object] = [svg.text(24, 30, title, size=16, weight="600")]
    if not finals:
        parts.append(svg.text(24, 60, "Nothing was measured in full."))
        return svg.picture(WIDTH, HEIGHT, title, parts)
    colours = {id(one): COLOURS[at % len(COLOURS)] for at, one in enumerate(finals)}
    chosen = None if outcome.chosen is None else outcome.found[outcome.chosen]
    parts += [
        _rates(outcome, colours, chosen),
        _latencies(finals, outcome.goals, colours),
        *_legend(finals, colours, chosen),
        svg.text(
            24, HEIGHT - 12, f"{outcome.machine}; {outcome.at}. Filled: nothing else is better in "
            "everything. Grey: only looked at for a short time.", size=11,
        ),
    ]  # fmt: skip
    return svg.picture(WIDTH, HEIGHT, title, parts)


def _rates(outcome: Outcome, colours: dict[int, str], chosen: Found | None) -> Panel:
    shown = [one for one in outcome.found if one.saturated is not None]
    low, high = svg.around([_accuracy(one) for one in shown], least=0.002)
    panel = Panel(
        "Rows a second that meet the goals" if outcome.goals.latency else "Rows a second",
        Axis(low, high, 80, 440),
        Axis(*svg.around([_rate(one) for one in shown], least=1, floor=0), _BOTTOM, _TOP),
        x_name="accuracy",
        y_name="rows/s",
    )
    front = sorted((_accuracy(one), _rate(one)) for one in shown if one.on_front)
    panel.line(front, colour=OTHER, dash="4 4")
    for one in shown:
        panel.dot(
            _accuracy(one),
            _rate(one),
            colour=colours.get(id(one), OTHER),
            told=f"{one.label}: {_rate(one):.0f} rows/s, {one.memory_mb:.0f} MB",
            filled=one.on_front,
            size=8 if one is chosen else 5 if one.is_final else 3,
        )
    return panel


def _latencies(finals: list[Found], goals: Goals, colours: dict[int, str]) -> Panel:
    goal = goals.latency[-1] if goals.latency else None
    share, limit_ms = (99.0, None) if goal is None else (goal.percentile, goal.limit_ms)
    curves = {
        id(one): [
            (point.offered_rows_s, late)
            for point in one.points
            if (late := point.latency_ms[f"p{share:g}"]) is not None
        ]
        for one in finals
    }
    known = [late for curve in curves.values() for _, late in curve]
    # What is far over the goal would press everything else to the ground.
    most = max(known, default=1.0) if limit_ms is None else min(max([*known, 0]), 3 * limit_ms)
    panel = Panel(
        f"p{share:g} of queue and pass, by rows a second that come",
        Axis(*svg.around([x for curve in curves.values() for x, _ in curve] or [1.0], least=1,
                         floor=0), 540, 930),
        Axis(*svg.around([most, limit_ms or 0.0], least=0.1, floor=0), _BOTTOM, _TOP),
        x_name="rows/s",
        y_name="ms",
    )  # fmt: skip
    ceiling = 1.05 * max(most, limit_ms or 0.0)
    for one in finals:
        curve = [(x, min(late, ceiling)) for x, late in curves[id(one)]]
        if curve:
            panel.line(curve, colour=colours[id(one)])
        for (x, y), (_, late) in zip(curve, curves[id(one)], strict=True):
            told = f"{one.label}: {late:.1f} ms at {x:.0f} rows/s"
            panel.dot(x, y, colour=colours[id(one)], told=told, filled=late == y, size=4)
    if limit_ms is not None:
        panel.line([(0, limit_ms), (_furthest(curves), limit_ms)], colour=svg.INK, dash="2 4")
    return panel


def _furthest(curves: dict[int, list[tuple[float, float]]]) -> float:
    return max((x for curve in curves.values() for x, _ in curve), default=1.0)


def _legend(finals: list[Found], colours: dict[int, str], chosen: Found | None) -> list[str]:
    words: list[str] = []
    for at, one in enumerate(finals):
        x, y = 40 + 460 * (at % 2), _BOTTOM + 60 + 18 * (at // 2)
        marks = [
            mark for mark, is_so in (("now", one.is_current), ("chosen", one is chosen)) if is_so
        ]
        told = one.label + (f" ({', '.join(marks)})" if marks else "")
        words += [
            f'<circle cx="{x - 10}" cy="{y - 4}" r="5" fill="{colours[id(one)]}"/>',
            svg.text(x, y, told),
        ]
    return words


def _accuracy(one: Found) -> float:
    return 1.0 if one.accuracy is None else one.accuracy


def _rate(one: Found) -> float:
    """At the goals; of those that did not come so far, saturated."""
    if one.rows_s is not None:
        return one.rows_s
    return 0.0 if one.is_final or one.saturated is None else one.saturated.median
