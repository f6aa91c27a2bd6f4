"""What came of the inferences: Triton's statistics extension.

Counted here are requests over this protocol, at this gateway, since it started; what only the
workers know, such as the size of micro-batches, is not. Times are in nanoseconds, as Triton has
them, and a request's times are those of the whole request.
"""

import time
from typing import Final

import msgspec

from forebay.contract.prediction import Timing

_NS: Final = 1_000_000_000
_NS_OF_MS: Final = 1_000_000


class Duration(msgspec.Struct):
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float) -> None:
        """Count one."""
        self.count += 1
        self.ns += max(0, int(ns))


class InferenceStatistics(msgspec.Struct):
    """How long what took.

    Attributes:
        success: requests that succeeded, from the first byte being read to their outputs.
        fail: likewise those that did not.
        queue: from enqueue until a worker held them.
        compute_input: from then until their first micro-batch began.
        compute_infer: from then until their last row was done.
        compute_output: nothing is counted there; likewise the cache's.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class ModelStatistics(msgspec.Struct):
    """One model's.

    Attributes:
        last_inference: when one last succeeded, Unix time in ms; 0 for never.
        inference_count: rows that succeeded.
        execution_count: requests that succeeded.
        batch_stats: none: micro-batches are the workers' own.
    """

    name: str
    version: str
    inference_stats: InferenceStatistics
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    batch_stats: tuple[()] = ()


class Statistics:
    """Those of all models."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStatistics] = {}

    def of(self, model: str, version: str) -> ModelStatistics:
        """A model's, as they stand."""
        found = self._models.get(model)
        if found is None:
            found = ModelStatistics(
                model, version, InferenceStatistics(*(Duration() for _ in range(8)))
            )
            self._models[model] = found
        found.version = version or found.version
        return found

    def succeeded(self, model: str, *, rows: int, seconds: float, timing: Timing | None) -> None:
        """Count a request that succeeded."""
        told = self.of(model, "")
        told.last_inference = int(time.time() * 1000)
        told.inference_count += rows
        told.execution_count += 1
        stats = told.inference_stats
        stats.success.add(seconds * _NS)
        if timing is not None:
            stats.queue.add(timing.queue_ms * _NS_OF_MS)
            stats.compute_input.add(timing.batch_ms * _NS_OF_MS)
            stats.compute_infer.add(timing.compute_ms * _NS_OF_MS)

    def failed(self, model: str, *, seconds: float) -> None:
        """Count a request that did not."""
        self.of(model, "").inference_stats.fail.add(seconds * _NS)
