"""Waiting for the parts of one prediction."""

import asyncio

import pytest

from forebay.contract.errors import LaneFull
from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes.replies import Waiter

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
