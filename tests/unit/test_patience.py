"""How long a request may take, by who waits for it and how."""

import pytest

from forebay.contract.generation import GenerationTable
from forebay.contract.model import BackendName, BulkLimits, LaneLimits, ModelSpec
from forebay.contract.prediction import Lane
from forebay.contract.replicas import Replicas
from forebay.contract.rows import Task
from forebay.gateway.patience import Patience

SYNC_WAIT_S = 60.0
FIXED = Replicas()
FROM_ZERO = Replicas(min=0, max=1, start_s=20.0)


def embedder(*, deadline_s: float = 30.0, replicas: Replicas = FIXED) -> ModelSpec:
    return ModelSpec(
        Task.EMBEDDING,
        BackendName.ONNX,
        realtime=LaneLimits(deadline_s=deadline_s),
        bulk=BulkLimits(deadline_s=3_600.0),
        replicas=replicas,
    )


def writer(*, timeout_s: float = 100.0) -> ModelSpec:
    return ModelSpec(
        Task.GENERATION,
        BackendName.ECHO,
        realtime=LaneLimits(deadline_s=30.0),
        generation=GenerationTable(timeout_s=timeout_s),
    )


def test_who_waits_and_gets_no_id_waits_until_it_expires() -> None:
    told = Patience.to_run(embedder(), Lane.REALTIME, None, sync_wait_s=SYNC_WAIT_S)
    assert told == Patience(deadline_ms=30_000, grace_ms=0, wait_s=30.0)


def test_no_wait_is_longer_than_the_gateways_own() -> None:
    spec = embedder(deadline_s=90.0)
    assert Patience.to_run(spec, Lane.REALTIME, None, sync_wait_s=SYNC_WAIT_S).wait_s == 60.0
    assert Patience.to_run(spec, Lane.BULK, None, sync_wait_s=SYNC_WAIT_S).deadline_ms == 60_000
    assert Patience.to_read(spec, sync_wait_s=SYNC_WAIT_S).wait_s == 60.0


@pytest.mark.parametrize(("deadline_s", "grace_s"), [(30.0, 20.0), (50.0, 10.0), (90.0, 0.0)])
def test_a_worker_that_has_to_be_started_is_waited_for_within_the_gateways_bound(
    deadline_s: float, grace_s: float
) -> None:
    spec = embedder(deadline_s=deadline_s, replicas=FROM_ZERO)
    told = Patience.to_run(spec, Lane.REALTIME, None, sync_wait_s=SYNC_WAIT_S)
    assert told.grace_ms == grace_s * 1000
    assert told.wait_s == min(deadline_s, SYNC_WAIT_S) + grace_s


def test_a_clients_own_bound_holds_whether_a_worker_is_there_or_not() -> None:
    spec = embedder(replicas=FROM_ZERO)
    told = Patience.to_run(spec, Lane.REALTIME, 0.0004, sync_wait_s=SYNC_WAIT_S)
    assert told == Patience(deadline_ms=1, grace_ms=0, wait_s=0.0004)
    kept = Patience.to_keep(
        spec,
        Lane.BULK,
        stream=False,
        wait_s=None,
        cancel_after_s=5.0,
        sync_wait_s=SYNC_WAIT_S,
    )
    assert kept == Patience(deadline_ms=5_000, grace_ms=0, wait_s=0.0, cancel_ms=5_000)


def test_a_text_has_its_own_time_on_top_of_its_lanes() -> None:
    told = Patience.to_run(writer(), Lane.REALTIME, None, sync_wait_s=SYNC_WAIT_S)
    assert told.deadline_ms == 130_000
    assert told.wait_s == 130.0


@pytest.mark.parametrize(("stream", "deadline_ms"), [(False, 130_000), (True, 30_000)])
def test_a_stream_that_is_kept_has_its_lanes_deadline_to_begin_in(
    stream: bool, deadline_ms: int
) -> None:
    told = Patience.to_keep(
        writer(),
        Lane.REALTIME,
        stream=stream,
        wait_s=None,
        cancel_after_s=None,
        sync_wait_s=SYNC_WAIT_S,
    )
    assert told.deadline_ms == deadline_ms


def test_a_prediction_outlives_the_wait_for_it() -> None:
    told = Patience.to_keep(
        embedder(replicas=FROM_ZERO),
        Lane.REALTIME,
        stream=False,
        wait_s=90.0,
        cancel_after_s=None,
        sync_wait_s=SYNC_WAIT_S,
    )
    assert told == Patience(deadline_ms=30_000, grace_ms=20_000, wait_s=60.0)


def test_who_reads_a_stream_waits_for_its_beginning_only() -> None:
    told = Patience.to_read(writer(), sync_wait_s=SYNC_WAIT_S)
    assert told == Patience(deadline_ms=30_000, grace_ms=0, wait_s=30.0)
