"""What a gateway counts, for Prometheus: `GET /metrics`.

Names and units are OpenTelemetry's, written as Prometheus has them; where its semantic conventions
have a metric it is that one. Label values come from bounded sets: nothing that a client makes up is
one. What is counted are numbers in memory, see `counts`: prometheus_client's own histogram takes
twice as long, and is one process's. It writes them out when somebody asks.
"""

import hashlib
import itertools
import time
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from forebay.contract.errors import ForebayError
from forebay.contract.prediction import Lane
from forebay.gateway.counts import Counts, Told

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Bounds of buckets: from a lone request on the path alone to the longest that a gateway waits."""

_SUM: Final = len(SECONDS) + 1
"""Where a histogram has the sum, behind its buckets; the last of these is of what is longer."""

_BOUNDS: Final = (*map(floatToGoString, SECONDS), "+Inf")

_REQUESTS: Final = "http_server_request_duration_seconds"
_ACTIVE: Final = "http_server_active_requests"
_PREDICTIONS: Final = "forebay_prediction_duration_seconds"
_GATEWAY: Final = "forebay_gateway"

UNEXPECTED: Final = "internal"
LEFT: Final = "client_gone"


class Meter(Collector):
    """One gateway process's counts, and those of the others on its port.

    Args:
        folder: where all on the port count; None for one that has it alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._counts = Counts(
            folder,
            form=hashlib.blake2b(repr(SECONDS).encode(), digest_size=16).digest(),
            passing=frozenset({_ACTIVE}),
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._by_status: dict[tuple[str, int], memoryview[float]] = {}
        self._by_outcome: dict[tuple[str, str, str], memoryview[float]] = {}

    def active(self, dialect: str) -> "memoryview[float]":
        """One number: how many requests of a dialect are being answered. Who answers changes it."""
        return self._counts.series(_ACTIVE, dialect, count=1)

    def answered(self, dialect: str, status: int, began: float) -> None:
        """A request that began at that time by `time.perf_counter` has its answer."""
        found = self._by_status.get((dialect, status))
        if found is None:
            found = self._counts.series(_REQUESTS, dialect, str(status), count=_SUM + 1)
            self._by_status[dialect, status] = found
        seconds = time.perf_counter() - began
        found[bisect_left(SECONDS, seconds)] += 1.0
        found[_SUM] += seconds

    def predicted(self, model: str, lane: str, outcome: str, began: float) -> None:
        """A prediction has come to this; likewise."""
        key = (model, lane, outcome)
        found = self._by_outcome.get(key)
        if found is None:
            found = self._counts.series(_PREDICTIONS, *key, count=_SUM + 1)
            self._by_outcome[key] = found
        seconds = time.perf_counter() - began
        found[bisect_left(SECONDS, seconds)] += 1.0
        found[_SUM] += seconds

    def text(self, accept: str) -> tuple[bytes, str]:
        """All there is, and its content type: what the scraper accepts, of what Prometheus has."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterable[Metric]:
        """All there is, of all on the port."""
        requests = HistogramMetricFamily(
            _REQUESTS,
            "From a request's head to the end of its answer",
            labels=("forebay_dialect", "http_response_status_code"),
        )
        active = GaugeMetricFamily(
            _ACTIVE, "Requests that are being answered", labels=("forebay_dialect",)
        )
        predictions = HistogramMetricFamily(
            _PREDICTIONS,
            "From a checked request to its result, or why there is none; streams are not in it",
            labels=("forebay_model", "forebay_lane", "forebay_outcome"),
        )
        told = self._counts.told()
        for (metric, *labels), numbers in sorted(self._counts.sums(told).items()):
            if metric == _ACTIVE:
                active.add_metric(labels, numbers[0])
            else:
                family = requests if metric == _REQUESTS else predictions
                family.add_metric(labels, _cumulated(numbers), numbers[_SUM])
        return [*self._processes(told), requests, active, predictions]

    def close(self) -> None:
        """Count for others no more; they go on telling what was counted."""
        self._counts.close()

    def _processes(self, told: list[Told]) -> Iterable[Metric]:
        """What the system says of each gateway's process; which it is, where it may be several."""
        found: dict[str, Metric] = {}
        for one in told:
            labels = {_GATEWAY: one.place} if self._counts.shares else {}
            for metric in _process(one.pid) if one.lives else ():
                family = found.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    family.add_sample(sample.name, labels, sample.value)
        return found.values()


def _process(pid: int) -> Iterable[Metric]:
    return ProcessCollector(registry=None, pid=lambda: pid).collect()


def _cumulated(numbers: list[float]) -> list[tuple[str, float]]:
    """Bounds of a histogram's buckets, with how many took no longer."""
    return list(zip(_BOUNDS, itertools.accumulate(numbers[:_SUM]), strict=True))


class Predicting:
    """Times a prediction: a context manager.

    Args:
        meter: counts it; None if nobody does.
        model: its name, without a version.
        lane: where it queues.

    Attributes:
        outcome: what it has come to, if that is not an error: `succeeded`, or as its status says.
    """

    __slots__ = ("_began", "_lane", "_meter", "_model", "outcome")

    def __init__(self, meter: Meter | None, model: str, lane: Lane) -> None:
        self._meter = meter
        self._model = model
        self._lane = lane.value
        self._began = time.perf_counter()
        self.outcome = "succeeded"

    def __enter__(self) -> "Predicting":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._meter is None:
            return
        if error is not None:
            self.outcome = _outcome_of(error)
        self._meter.predicted(self._model, self._lane, self.outcome, self._began)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, ForebayError):
        return error.kind.value
    return UNEXPECTED if isinstance(error, Exception) else LEFT
