"""Spans of what a worker does for requests that are sampled. Nothing here runs for the others.

A request's own trace has a span of its processing, from the lease until it is settled: how long it
waited on its lane and for its batch, was computed and was told. A batch has a trace of its own,
linked to those of its requests, as they are to it.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from forebay.contract.messages import Reply
from forebay.contract.prediction import Status
from forebay.contract.rows import Generated
from forebay.lanes.consumer import Delivery
from forebay.runtime.tracing import Trace, names, unpack

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Tracing


class ProcessSpan:
    """The span of one delivery.

    Attributes:
        parent: the request's way onto the lane.
        began_ns: when it was leased, Unix time in ns.
        batches: that its rows were in.
    """

    def __init__(self, parent: Trace) -> None:
        self.parent = parent
        self.began_ns = time.time_ns()
        self.batches: dict[int, Trace] = {}


def process_span(traceparent: str) -> ProcessSpan | None:
    """Of a delivery whose message says that it is sampled."""
    parent = unpack(traceparent)
    return None if parent is None else ProcessSpan(parent)


def batch_ran(
    tracing: "Tracing",
    spans: Iterable[ProcessSpan],
    *,
    model: str,
    rows: int,
    length: int,
    began_ms: float,
    ended_ms: float,
) -> None:
    """A batch has run in which there were sampled rows.

    Args:
        tracing: of this process.
        spans: of deliveries that have rows in it.
        model: that ran.
        rows: in all.
        length: of the longest.
        began_ms: Unix time in ms; likewise the next.
        ended_ms: when it was done.
    """
    from forebay.runtime.tracing.spans import Ended, SpanKind, child

    several = list({id(span): span for span in spans}.values())
    batch = child(None)
    tracing.emit(
        Ended(
            batch,
            None,
            f"process {model}",
            SpanKind.CONSUMER,
            {
                names.MESSAGING_SYSTEM: names.SYSTEM,
                names.MESSAGING_OPERATION: "process",
                names.MESSAGING_KIND: "process",
                names.MESSAGING_DESTINATION: model,
                names.MESSAGING_COUNT: len(several),
                names.BATCH_ROWS: rows,
                names.BATCH_LENGTH: length,
            },
            int(began_ms * 1e6),
            int(ended_ms * 1e6),
            links=[one.parent for one in several],
        )
    )
    for one in several:
        one.batches[batch.span_id] = batch


def settled(tracing: "Tracing", own: ProcessSpan, delivery: Delivery, reply: Reply) -> None:
    """A delivery was settled, just now.

    Args:
        tracing: of this process.
        own: of the delivery.
        delivery: what was leased.
        reply: how it ended.
    """
    from forebay.runtime.tracing.spans import Ended, SpanKind, child, now_ns

    model = delivery.prediction.rpartition("-")[0].rpartition("-")[0]
    now = now_ns()
    attributes: dict[str, str | bool | int | float] = {
        names.MESSAGING_SYSTEM: names.SYSTEM,
        names.MESSAGING_OPERATION: "process",
        names.MESSAGING_KIND: "process",
        names.MESSAGING_DESTINATION: f"{model}:{delivery.lane.value}",
        names.MESSAGING_MESSAGE: delivery.prediction,
        names.PART: delivery.part,
        names.ATTEMPT: delivery.attempt,
        names.OUTCOME: reply.status.value,
        names.REPLY_MS: max(0.0, now / 1e6 - reply.completed_at_ms),
    }
    if reply.version:
        attributes[names.VERSION] = reply.version
    timing = reply.timing
    if timing is not None:
        attributes[names.QUEUE_MS] = timing.queue_ms
        attributes[names.WAIT_MS] = timing.batch_ms
        attributes[names.COMPUTE_MS] = timing.compute_ms
    texts = [output for output in reply.outputs if isinstance(output, Generated)]
    if texts:
        attributes[names.GEN_AI_OPERATION] = "text_completion"
        attributes[names.GEN_AI_MODEL] = model
        attributes[names.GEN_AI_INPUT] = sum(text.prompt_tokens for text in texts)
        attributes[names.GEN_AI_OUTPUT] = sum(text.tokens for text in texts)
    events = [("retry", own.began_ns)] if delivery.attempt > 1 else []
    error = ""
    if reply.status is not Status.SUCCEEDED:
        error = reply.status.value
        if reply.error is not None:
            attributes[names.ERROR_TYPE] = reply.error.kind.value
    tracing.emit(
        Ended(
            child(own.parent),
            own.parent,
            f"process {model}:{delivery.lane.value}",
            SpanKind.CONSUMER,
            attributes,
            own.began_ns,
            now,
            links=list(own.batches.values()),
            events=events,
            error=error,
        )
    )
