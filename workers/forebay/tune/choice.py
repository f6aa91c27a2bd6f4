"""Which candidate is best, and why; or what came nearest, and what stands in its way. Pure."""

from collections.abc import Sequence

from forebay.tune.goals import Goals
from forebay.tune.outcome import Found, LeftOut

TIE = 0.03
"""Rates that differ by less are the same: a machine is not steadier than that."""


def choose(found: Sequence[Found], goals: Goals) -> int | None:
    """Index of the best that meets all goals; None if none does.

    The most rows a second win. Of those that are as fast, the current settings do, then the most
    accurate, then the smallest.
    """
    fit = [index for index, one in enumerate(found) if _fits(one, goals)]
    if not fit:
        return None
    fastest = max(_rate(found[index]) for index in fit)
    equal = [index for index in fit if _rate(found[index]) >= fastest * (1 - TIE)]
    return max(
        equal,
        key=lambda index: (
            found[index].is_current,
            found[index].accuracy or 0.0,
            -found[index].memory_bytes,
        ),
    )


def why(found: Sequence[Found], chosen: int, goals: Goals) -> str:
    """The reason for a choice, in one sentence."""
    one = found[chosen]
    fit = [other for other in found if _fits(other, goals)]
    at = " and ".join(str(goal) for goal in goals.latency) or "saturation"
    told = f"{one.label}: {_rate(one):.0f} rows/s at {at}"
    fastest = max(map(_rate, fit))
    if _rate(one) == fastest:
        told += f", the most of {len(fit)} that meet the goals"
    else:
        told += f", within {TIE:.0%} of the most".replace("%", " %")
        told += " and what the catalog says already" if one.is_current else " and more accurate"
        if not one.is_current and _same_accuracy(one, fit, fastest):
            told = told.removesuffix("more accurate") + "smaller"
    current = next((other for other in found if other.is_current), None)
    if one.is_current:
        return f"{told}."
    if current is None or current.rows_s is None:
        return f"{told}; the current settings meet them at no rate."
    return f"{told}, {_rate(one) / current.rows_s:.2f} times the current settings' rate."


def nearest(found: Sequence[Found], left_out: Sequence[LeftOut], goals: Goals) -> str:
    """What came nearest to the goals, and what stands in its way."""
    measured = [one for one in found if one.saturated is not None]
    if not measured:
        known = [(one.accuracy, one.build) for one in left_out if one.accuracy is not None]
        if known and goals.min_accuracy is not None:
            accuracy, build = max(known)
            return (
                f"No build reaches an accuracy of {goals.min_accuracy:g}: {build} comes nearest "
                f"with {accuracy:.5f}."
            )
        reasons = dict.fromkeys(
            [one.failed for one in found if one.failed] + [one.why for one in left_out]
        )
        return f"Nothing could be measured: {' '.join(reasons) or 'there was no time.'}"
    most = goals.max_memory_mb
    light = [one for one in measured if most is None or one.memory_mb <= most]
    if not light:
        one = min(measured, key=lambda one: one.memory_bytes)
        return (
            f"Everything takes more memory than {most:g} MB: {one.label} comes nearest with "
            f"{one.memory_mb:.0f} MB."
        )
    finals = [one for one in light if one.is_final and one.latency is not None]
    if not finals or not goals.latency:
        return "There was no time to measure any candidate in full: give it more with --minutes."
    one = min(finals, key=lambda one: _lateness(one, goals))
    point = one.latency
    assert point is not None
    missed = [
        f"p{goal.percentile:g} is "
        + (f"{late:.1f} ms" if late is not None else "out of sight")
        + f" where {goal.limit_ms:g} ms are asked"
        for goal in goals.latency
        if (late := point.latency_ms[f"p{goal.percentile:g}"]) is None or late > goal.limit_ms
    ]
    return (
        f"Nothing meets {' and '.join(map(str, goals.latency))}: {one.label} comes nearest, and "
        f"at {point.offered_rows_s:.1f} rows/s, {point.fraction:.0%} of what it can do, "
        f"{' and '.join(missed)}. So little load leaves hardly any queue: what takes so long is "
        "a pass by itself, and only a smaller model, shorter rows or a faster machine help."
    ).replace("% of", " % of")


def _fits(one: Found, goals: Goals) -> bool:
    if not one.is_final or one.failed or one.rows_s is None:
        return False
    accurate = (
        goals.min_accuracy is None or one.accuracy is None or one.accuracy >= goals.min_accuracy
    )
    return accurate and (goals.max_memory_mb is None or one.memory_mb <= goals.max_memory_mb)


def _rate(one: Found) -> float:
    return one.rows_s or 0.0


def _same_accuracy(one: Found, fit: Sequence[Found], fastest: float) -> bool:
    return any(other.accuracy == one.accuracy for other in fit if _rate(other) == fastest)


def _lateness(one: Found, goals: Goals) -> float:
    """By how much it misses the goal that it misses most."""
    assert one.latency is not None
    late = [(one.latency.latency_ms[f"p{goal.percentile:g}"], goal) for goal in goals.latency]
    return max(float("inf") if ms is None else ms / goal.limit_ms for ms, goal in late)
