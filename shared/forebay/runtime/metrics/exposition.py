"""Metrics as Prometheus reads them: the text format, version 0.0.4.

Names follow OpenTelemetry's rules for Prometheus: dots become underscores, the unit is written out
behind the name, and a counter ends in `_total`.
"""

from typing import Final

from forebay.runtime.metrics.instruments import Histogram, Kind, Labels, Metric, Registry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_UNITS: Final = {"s": "seconds", "By": "bytes", "1": "ratio"}
"""Those in braces, such as `{row}`, are no units, and are left out."""

_TYPES: Final = {
    Kind.COUNTER: "counter",
    Kind.UP_DOWN_COUNTER: "gauge",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
}


def name_of(metric: Metric) -> str:
    """What Prometheus calls a metric."""
    name = metric.name.replace(".", "_")
    unit = _UNITS.get(metric.unit)
    if unit is not None and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind is Kind.COUNTER else name


def text_of(registry: Registry) -> bytes:
    """All metrics of a process, as it is now."""
    lines: list[str] = []
    for metric, readings in registry.values:
        name = _head(lines, metric)
        lines += [
            f"{name}{_labels(metric.labels, labels)} {_number(value)}" for labels, value in readings
        ]
    for histogram in registry.histograms:
        _spread(lines, histogram)
    lines.append("")
    return "\n".join(lines).encode()


def _head(lines: list[str], metric: Metric) -> str:
    name = name_of(metric)
    lines.append(f"# HELP {name} {metric.description}")
    lines.append(f"# TYPE {name} {_TYPES[metric.kind]}")
    return name


def _spread(lines: list[str], histogram: Histogram) -> None:
    metric = histogram.metric
    name = _head(lines, metric)
    names = (*metric.labels, "le")
    bounds = [*map(_number, metric.bounds), "+Inf"]
    for labels, series in histogram.read():
        below = 0
        for bound, count in zip(bounds, series.counts, strict=True):
            below += count
            lines.append(f"{name}_bucket{_labels(names, (*labels, bound))} {below}")
        own = _labels(metric.labels, labels)
        lines.append(f"{name}_sum{own} {_number(series.sum)}")
        lines.append(f"{name}_count{own} {below}")


def _labels(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_quoted(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
