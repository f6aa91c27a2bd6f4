"""Enough SVG for a chart: axes with round numbers, points, lines, words."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

import msgspec

INK = "#333"
GRID = "#ddd"
FONT = "system-ui, sans-serif"


class Axis(msgspec.Struct, frozen=True):
    """Values to pixels, from `start` to `end`, which may run upwards."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class Panel:
    """One chart of several in a picture.

    Args:
        title: above it.
        x: its horizontal axis.
        y: its vertical axis.
        x_name: what that shows, with its unit.
        y_name: likewise.
    """

    def __init__(self, title: str, x: Axis, y: Axis, *, x_name: str, y_name: str) -> None:
        self._x, self._y = x, y
        middle = (x.start + x.end) / 2
        self._parts = [text(x.start, y.end - 12, title, size=14, weight="600")]
        for value in ticks(x.low, x.high):
            at = x.at(value)
            self._parts += [
                _line(at, y.start, at, y.end, GRID),
                text(at, y.start + 16, _number(value), anchor="middle"),
            ]
        for value in ticks(y.low, y.high):
            at = y.at(value)
            self._parts += [
                _line(x.start, at, x.end, at, GRID),
                text(x.start - 6, at + 4, _number(value), anchor="end"),
            ]
        self._parts += [
            text(middle, y.start + 34, x_name, anchor="middle"),
            text(x.start - 6, y.end - 12, y_name, anchor="end"),
        ]

    def dot(self, x: float, y: float, *, colour: str, told: str, filled: bool, size: int) -> None:
        """A point; `told` is shown to whoever hovers over it."""
        fill = colour if filled else "white"
        self._parts.append(
            f'<circle cx="{self._x.at(x):.1f}" cy="{self._y.at(y):.1f}" r="{size}" fill="{fill}" '
            f'stroke="{colour}" stroke-width="2"><title>{escape(told)}</title></circle>'
        )

    def line(self, points: Sequence[tuple[float, float]], *, colour: str, dash: str = "") -> None:
        """A line through points."""
        at = " ".join(f"{self._x.at(x):.1f},{self._y.at(y):.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )

    def word(self, x: float, y: float, told: str, *, anchor: str = "start") -> None:
        """Words beside a place."""
        self._parts.append(text(self._x.at(x), self._y.at(y), told, anchor=anchor))

    def __str__(self) -> str:
        """The panel as SVG."""
        return "\n".join(self._parts)


def picture(width: int, height: int, title: str, parts: Sequence[object]) -> str:
    """A whole file."""
    inside = "\n".join(map(str, parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label={quoteattr(title)} '
        f'font-family="{FONT}" font-size="12" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n{inside}\n</svg>\n'
    )


def text(
    x: float, y: float, told: str, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    """Words at a pixel."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{escape(told)}</text>'
    )


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def around(
    values: Sequence[float], *, least: float, floor: float | None = None
) -> tuple[float, float]:
    """A range with some air around values.

    Args:
        values: at least one.
        least: the range is at least so wide.
        floor: it begins here, if given.
    """
    low = min(values) if floor is None else floor
    high = max(*values, low)
    air = max((high - low) * 0.1, least / 2)
    return (low - air if floor is None else floor), high + air


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.6g}"
