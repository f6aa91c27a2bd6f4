"""What counts, and what holds all that does of one process.

Label values come in the order in which the metric names them, and only from sets that are bounded:
a model's name, a lane, a dialect, a kind of error. Nothing that a client makes up is one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

Labels = tuple[str, ...]
Reading = tuple[Labels, float]
Read = Callable[[], Iterable[Reading]]


class Kind(StrEnum):
    """OpenTelemetry's kinds of instruments."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "updowncounter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True):
    """A metric as it is told.

    Attributes:
        name: OpenTelemetry's, with dots.
        kind: what it can do.
        unit: as UCUM has it: `s`, `By`, `{row}`.
        labels: names of its labels.
        description: one line.
        bounds: upper bounds of a histogram's buckets, ascending, in the metric's unit.
    """

    name: str
    kind: Kind
    unit: str
    labels: Labels
    description: str
    bounds: tuple[float, ...] = ()


class Counter:
    """A sum that grows.

    Args:
        metric: of that kind.
    """

    __slots__ = ("_values", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._values: dict[Labels, float] = {}

    def add(self, by: float, *labels: str) -> None:
        """Add to the sum of these labels."""
        values = self._values
        values[labels] = values.get(labels, 0) + by

    def read(self) -> list[Reading]:
        """All sums; one that was never added to is not there."""
        return list(self._values.items())


class Series:
    """What a histogram has of one set of labels.

    Attributes:
        counts: by bucket, the last one without a bound.
        sum: of all values.
    """

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class Histogram:
    """How values are spread over fixed buckets.

    Args:
        metric: of that kind.
    """

    __slots__ = ("_bounds", "_series", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._bounds = metric.bounds
        self._series: dict[Labels, Series] = {}

    def record(self, value: float, *labels: str) -> None:
        """Count a value, in the metric's unit."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(len(self._bounds) + 1)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.sum += value

    def read(self) -> list[tuple[Labels, Series]]:
        """What there is of each set of labels."""
        return list(self._series.items())


class Registry:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._observed: dict[str, tuple[Metric, list[Read]]] = {}

    def counter(self, metric: Metric) -> Counter:
        """What counts this metric; the same whoever asks."""
        return self._counters.setdefault(metric.name, Counter(metric))

    def histogram(self, metric: Metric) -> Histogram:
        """What spreads this metric; the same whoever asks."""
        return self._histograms.setdefault(metric.name, Histogram(metric))

    def observe(self, metric: Metric, read: Read) -> Callable[[], None]:
        """Have a metric read when somebody asks.

        Args:
            metric: no histogram.
            read: gives what there is; of the same labels told twice the values are added up.

        Returns:
            What to call so that it is read no longer.
        """
        _, reads = self._observed.setdefault(metric.name, (metric, []))
        reads.append(read)
        return lambda: reads.remove(read)

    @property
    def values(self) -> list[tuple[Metric, list[Reading]]]:
        """Every metric that is one number for a set of labels."""
        found = [(counter.metric, counter.read()) for counter in self._counters.values()]
        for metric, reads in self._observed.values():
            sums: dict[Labels, float] = {}
            for read in list(reads):
                for labels, value in read():
                    sums[labels] = sums.get(labels, 0) + value
            found.append((metric, list(sums.items())))
        return found

    @property
    def histograms(self) -> list[Histogram]:
        """Every metric that is spread over buckets."""
        return list(self._histograms.values())
