"""What a gateway counts, for Prometheus: `GET /metrics`.

Names and units are OpenTelemetry's, written as Prometheus has them; where its semantic conventions
have a metric it is that one. Label values come from bounded sets: nothing that a client makes up is
one. Each set of labels is looked up in a dictionary of our own: prometheus_client's `labels` takes
longer than counting.
"""

import time
from types import TracebackType
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from forebay.contract.errors import ForebayError
from forebay.contract.prediction import Lane

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Bounds of buckets: from a lone request on the path alone to the longest that a gateway waits."""

# They are a gauge beside each of the others, for when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]

UNEXPECTED: Final = "internal"
LEFT: Final = "client_gone"


class Active:
    """Requests of a dialect that are being answered. Read when somebody asks.

    Attributes:
        count: how many.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def read(self) -> float:
        """How many."""
        return float(self.count)


class Meter:
    """One gateway process's counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "From a request's head to the end of its answer",
            ("forebay_dialect", "http_response_status_code"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._active = Gauge(
            "http_server_active_requests",
            "Requests that are being answered",
            ("forebay_dialect",),
            registry=self.registry,
        )
        self._predictions = Histogram(
            "forebay_prediction_duration_seconds",
            "From a checked request to its result, or why there is none; streams are not in it",
            ("forebay_model", "forebay_lane", "forebay_outcome"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._by_status: dict[tuple[str, int], Histogram] = {}
        self._by_dialect: dict[str, Active] = {}
        self._by_outcome: dict[tuple[str, str, str], Histogram] = {}

    def active(self, dialect: str) -> Active:
        """What counts requests of a dialect while they are answered."""
        found = self._by_dialect.get(dialect)
        if found is None:
            found = self._by_dialect[dialect] = Active()
            self._active.labels(dialect).set_function(found.read)
        return found

    def answered(self, dialect: str, status: int, began: float) -> None:
        """A request that began at that time by `time.perf_counter` has its answer."""
        found = self._by_status.get((dialect, status))
        if found is None:
            found = self._requests.labels(dialect, str(status))
            self._by_status[dialect, status] = found
        found.observe(time.perf_counter() - began)

    def predicted(self, model: str, lane: str, outcome: str, began: float) -> None:
        """A prediction has come to this; likewise."""
        key = (model, lane, outcome)
        found = self._by_outcome.get(key)
        if found is None:
            found = self._by_outcome[key] = self._predictions.labels(*key)
        found.observe(time.perf_counter() - began)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All there is, and its content type: what the scraper accepts, of what Prometheus has."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


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
