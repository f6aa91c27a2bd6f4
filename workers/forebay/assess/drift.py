"""Two sketches held against each other: has what a model is asked, or answers, changed?

Pure. By statistic: the population stability index and the Jensen–Shannon divergence of the shares
of its bins.

PSI, the sum over bins of (now - then) ln(now / then), is judged as credit scoring does (Siddiqi
2006): under 0.1 stable, from 0.25 on another distribution. It is also never 0 for two samples of
one distribution: it is then about (1/n + 1/m) times a chi-square of bins - 1 degrees of freedom
(Yurdakul 2018), n and m being the samples' rows. What that makes in 999 of 1,000 cases is
taken for chance, however large it is: there are several statistics, and they are looked at often.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from forebay.contract.sketch import Sketch

SHIFTED = 0.1
DRIFTED = 0.25

LEAST_ROWS = 100
"""Rows that both sketches need before anything is said of a statistic."""

CHANCE_Z = 3.0902
"""Of the normal distribution 99.9 % lie below."""

MOST_MOVES = 3

HALF = 0.5
"""Added to each bin, so that one that is empty on one side gives no infinity (Jeffreys)."""


class Verdict(StrEnum):
    """What is to be said of a statistic, the worst last."""

    TOO_FEW = "too few rows"
    STABLE = "stable"
    SHIFTED = "shifted"
    DRIFTED = "drifted"


class Move(msgspec.Struct, frozen=True):
    """A bin whose share of the rows has changed, 0..1 each."""

    bin: str
    then: float
    now: float


class StatisticDrift(msgspec.Struct, frozen=True):
    """How one statistic has changed.

    Attributes:
        statistic: its name.
        rows_then: rows of the reference.
        rows_now: rows since.
        psi: population stability index.
        chance: what that is by chance alone at most, in 999 of 1,000 cases.
        jsd: Jensen–Shannon divergence in bits, 0..1 (Lin 1991).
        verdict: what is to be said of it.
        moves: the bins that changed most.
    """

    statistic: str
    rows_then: int
    rows_now: int
    psi: float
    chance: float
    jsd: float
    verdict: Verdict
    moves: tuple[Move, ...]


def compare(then: Sketch, now: Sketch) -> list[StatisticDrift]:
    """Every statistic of either sketch, by name."""
    return [_compared(name, then, now) for name in sorted(then.counts.keys() | now.counts.keys())]


def worst(found: list[StatisticDrift]) -> Verdict:
    """The worst verdict; too few rows only if that is said of all."""
    order = list(Verdict)
    return max((one.verdict for one in found), key=order.index, default=Verdict.TOO_FEW)


def stability_index(then: Mapping[str, float], now: Mapping[str, float]) -> float:
    """PSI of two distributions over the same bins, none of them empty."""
    return sum((now[bin_] - then[bin_]) * math.log(now[bin_] / then[bin_]) for bin_ in then)


def divergence(then: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Jensen–Shannon divergence in bits of two distributions over the same bins, none empty."""
    total = 0.0
    for bin_, one in then.items():
        other = now[bin_]
        middle = (one + other) / 2
        total += (one * math.log2(one / middle) + other * math.log2(other / middle)) / 2
    return max(total, 0.0)


def by_chance(bins: int, rows_then: int, rows_now: int) -> float:
    """What PSI two samples of one distribution have at most, in 999 of 1,000 cases.

    The quantile of chi-square is that of Wilson and Hilferty 1931.
    """
    freedom = bins - 1
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + CHANCE_Z * math.sqrt(spread)) ** 3
    return quantile * (1 / rows_then + 1 / rows_now)


def _compared(name: str, then: Sketch, now: Sketch) -> StatisticDrift:
    rows_then, rows_now = then.rows(name), now.rows(name)
    # Rows of which there is nothing to count at all are in a bin of their own.
    counts = [sketch.counts.get(name) or {"none": sketch.rows(name)} for sketch in (then, now)]
    bins = sorted(counts[0].keys() | counts[1].keys())
    shares = [_shares(one, bins) for one in counts]
    psi = stability_index(*shares)
    chance = by_chance(len(bins), max(rows_then, 1), max(rows_now, 1))
    moved = sorted(bins, key=lambda bin_: -abs(shares[1][bin_] - shares[0][bin_]))
    return StatisticDrift(
        statistic=name,
        rows_then=rows_then,
        rows_now=rows_now,
        psi=psi,
        chance=chance,
        jsd=divergence(*shares),
        verdict=_verdict(psi, chance, min(rows_then, rows_now)),
        moves=tuple(Move(bin_, shares[0][bin_], shares[1][bin_]) for bin_ in moved[:MOST_MOVES]),
    )


def _shares(counts: Mapping[str, int], bins: list[str]) -> dict[str, float]:
    total = sum(counts.values()) + HALF * len(bins)
    return {bin_: (counts.get(bin_, 0) + HALF) / total for bin_ in bins}


def _verdict(psi: float, chance: float, rows: int) -> Verdict:
    if rows < LEAST_ROWS:
        return Verdict.TOO_FEW
    if psi < SHIFTED or psi <= chance:
        return Verdict.STABLE
    return Verdict.DRIFTED if psi >= DRIFTED else Verdict.SHIFTED
