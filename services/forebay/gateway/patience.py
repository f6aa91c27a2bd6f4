"""How long a request may take: until it expires, until there is a worker, until its client goes.

A lane's deadline is that of a prediction of which nothing is told before its end; a text that is
generated has its own time on top of it, as it is only begun within the deadline.
"""

from typing import Self

import msgspec

from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane
from forebay.contract.rows import Task


class Patience(msgspec.Struct, frozen=True):
    """How long one request may take.

    Attributes:
        deadline_ms: after how long it expires.
        grace_ms: by how much later if no worker is there.
        wait_s: how long its client waits: for the end, or for the first chunk of a stream.
        cancel_ms: after how long it ends, however much of it was told; 0 for no such time.
    """

    deadline_ms: int
    grace_ms: int
    wait_s: float
    cancel_ms: int = 0

    @classmethod
    def to_run(
        cls, spec: ModelSpec, lane: Lane, timeout_s: float | None, *, sync_wait_s: float
    ) -> Self:
        """For a client that waits and gets no id: it expires when the wait is over.

        Args:
            spec: what runs it.
            lane: where it queues.
            timeout_s: the client's own bound.
            sync_wait_s: the gateway's bound on waits; a text that is generated may take longer.
        """
        deadline_s, most_s = _deadline_s(spec, lane), sync_wait_s
        if spec.task is Task.GENERATION:
            deadline_s += spec.generation.timeout_s
            most_s += deadline_s
        else:
            deadline_s = min(deadline_s, sync_wait_s)
        deadline_s = min(deadline_s, timeout_s or deadline_s)
        grace_s = 0.0 if timeout_s else min(spec.replicas.grace_s, most_s - deadline_s)
        return cls(max(1, int(deadline_s * 1000)), int(grace_s * 1000), deadline_s + grace_s)

    @classmethod
    def to_keep(
        cls,
        spec: ModelSpec,
        lane: Lane,
        *,
        stream: bool,
        wait_s: float | None,
        cancel_after_s: float | None,
        sync_wait_s: float,
    ) -> Self:
        """For a client that gets an id: the prediction outlives the wait.

        Args:
            spec: what runs it.
            lane: where it queues.
            stream: its deadline is put off once it begins.
            wait_s: how long the client wants to wait, if it does.
            cancel_after_s: the client's own bound.
            sync_wait_s: the gateway's bound on waits.
        """
        deadline_s = _deadline_s(spec, lane)
        if spec.task is Task.GENERATION and not stream:
            deadline_s += spec.generation.timeout_s
        deadline_s = min(deadline_s, cancel_after_s or deadline_s)
        return cls(
            int(deadline_s * 1000),
            0 if cancel_after_s else int(spec.replicas.grace_s * 1000),
            min(wait_s or 0.0, sync_wait_s),
            int((cancel_after_s or 0.0) * 1000),
        )

    @classmethod
    def to_read(cls, spec: ModelSpec, *, sync_wait_s: float) -> Self:
        """For a client that reads a stream: only its beginning is waited for.

        Args:
            spec: what runs it.
            sync_wait_s: the gateway's bound on waits.
        """
        deadline_s = min(sync_wait_s, spec.realtime.deadline_s)
        grace_ms = int(spec.replicas.grace_s * 1000)
        return cls(max(1, int(deadline_s * 1000)), grace_ms, deadline_s + grace_ms / 1000)


def _deadline_s(spec: ModelSpec, lane: Lane) -> float:
    limits = spec.realtime if lane is Lane.REALTIME else spec.bulk
    return limits.deadline_s
