"""Whose a line is that a user's code says, and what becomes of more lines than are kept."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from forebay.contract.messages import decode_computation
from forebay.contract.prediction import Lane, PredictionId
from forebay.inference.assembly import Assembly
from forebay.inference.logs import LOGGER, listen, said_of, said_of_some
from forebay.lanes.consumer import Delivery
from tests.fixtures.lanes import message

log = logging.getLogger(LOGGER)


class Taken(list[tuple[Assembly, str]]):
    """Lines, and whose they are."""

    def take(self, assembly: Assembly, line: str) -> None:
        self.append((assembly, line))


@pytest.fixture
def taken() -> Iterator[Taken]:
    level = log.level
    listen()
    listen()
    yield Taken()
    log.setLevel(level)


def assembly(prediction: str = "", part: int = 0) -> Assembly:
    computation = decode_computation(message())
    id_ = prediction or PredictionId.new("echo").text
    delivery = Delivery(b"1-0", Lane.REALTIME, id_, part, 1, computation, 0.0, 0)
    return Assembly(delivery, computation)


def test_a_line_is_of_the_row_it_names_or_else_of_the_only_prediction(taken: Taken) -> None:
    first, second = assembly(), assembly()
    with said_of([first, first, second], taken.take):
        log.info("of %s", "both")
        for row in (2, 0, 3, -1, "1"):
            log.info("row %s", row, extra={"row": row})
    assert taken == [(second, "row 2"), (first, "row 0")]
    taken.clear()
    with said_of([first, first], taken.take):
        log.info("both rows")
    other_part = assembly(first.delivery.prediction, 1)
    with said_of([first, other_part], taken.take):
        log.info("both parts")
    assert taken == [(first, "both rows"), (first, "both parts")]


def test_rows_of_a_smaller_call_are_counted_anew(taken: Taken) -> None:
    first, second = assembly(), assembly()
    with said_of([first, second], taken.take):
        with said_of_some(1, 9):
            log.info("a", extra={"row": 0})
            log.info("b")
            log.info("c", extra={"row": 1})
        log.info("d", extra={"row": 0})
    with said_of_some(0, 1):
        log.info("nobody's")
    assert taken == [(second, "a"), (second, "b"), (first, "d")]


def test_what_is_said_outside_a_prediction_or_too_softly_is_nobodys(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("before")
    with said_of([assembly()], None):
        log.info("where nobody takes it")
    with said_of([mine := assembly()], taken.take):
        log.debug("softly")
        log.info("%d is no number", "this")
        log.error("loud")
    log.info("after")
    assert taken == [(mine, "loud")]


async def test_tasks_and_their_threads_say_things_of_their_own_prediction(taken: Taken) -> None:
    async def run(mine: Assembly) -> None:
        with said_of([mine], taken.take):
            await asyncio.gather(asyncio.to_thread(log.info, "thread"), asyncio.sleep(0))
            log.info("task")

    first, second = assembly(), assembly()
    await asyncio.gather(run(first), run(second))
    for one in (first, second):
        assert [line for owner, line in taken if owner is one] == ["thread", "task"]
