"""Waiting for the parts of one prediction."""

import asyncio

import pytest

from forebay.contract.errors import LaneFull
from forebay.contract.generation import Chunk
from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes.replies import LONGEST_UNSEEN_S, OVERDUE_S, Waiter

ID = PredictionId.new("echo")


def reply(part: int, status: Status = Status.SUCCEEDED) -> Reply:
    return Reply(prediction=ID.text, status=status, completed_at_ms=1, part=part)


async def test_a_wait_is_over_with_the_last_part_whatever_their_order() -> None:
    waiter = Waiter(ID, 3)
    assert [waiter.take(reply(2)), waiter.take(reply(0)), waiter.take(reply(0))] == [False] * 3
    assert waiter.take(reply(1))
    assert waiter.future.result() == (reply(0), reply(1), reply(2))


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED, Status.EXPIRED])
async def test_a_wait_is_over_with_the_first_part_that_did_not_succeed(status: Status) -> None:
    waiter = Waiter(ID, 3)
    assert not waiter.take(reply(1))
    assert waiter.take(reply(2, status))
    assert waiter.future.result() == (reply(2, status),)


async def test_nothing_changes_once_a_wait_is_over() -> None:
    waiter = Waiter(ID, 1)
    assert waiter.take(reply(0))
    assert waiter.take(reply(0, Status.FAILED))
    waiter.submitted(LaneFull("full"))
    assert waiter.future.result() == (reply(0),)


async def test_a_refused_submission_ends_the_wait() -> None:
    waiter = Waiter(ID, 1)
    waiter.submitted(LaneFull("full"))
    assert not waiter.enqueued
    with pytest.raises(LaneFull):
        await waiter.future


async def test_an_accepted_submission_does_not() -> None:
    waiter = Waiter(ID, 1)
    waiter.submitted(None)
    assert waiter.enqueued
    assert not waiter.future.done()


async def test_a_waiter_that_left_takes_nothing_amiss() -> None:
    waiter = Waiter(ID, 1)
    waiter.future.cancel()
    assert waiter.take(reply(0))
    waiter.submitted(LaneFull("full"))
    with pytest.raises(asyncio.CancelledError):
        await waiter.future


class _Ear:
    begun = True

    def hear(self, chunk: Chunk) -> None:
        """Nothing is said here."""

    def missed(self) -> None:
        """Nor missed."""


async def test_who_has_waited_long_is_looked_after_less_often_but_not_who_reads() -> None:
    waiter = Waiter(ID, 1)
    begun = waiter.begun
    pauses = []
    for waited_s in (0.0, 4.0, 40.0, 4_000.0):
        waiter.since = begun + waited_s
        pauses.append(waiter.overdue_at - waiter.since)
    assert pauses == pytest.approx([OVERDUE_S, OVERDUE_S, 10.0, LONGEST_UNSEEN_S])
    reader = Waiter(ID, 1, _Ear())
    reader.since = reader.begun + 4_000.0
    assert reader.overdue_at - reader.since == pytest.approx(OVERDUE_S)


async def test_what_was_on_its_lane_before_is_looked_at_at_once() -> None:
    waiter = Waiter(ID, 1)
    waiter.submitted(None, known=True)
    assert waiter.enqueued
    assert waiter.overdue_at < waiter.begun
