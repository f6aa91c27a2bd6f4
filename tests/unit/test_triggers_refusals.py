"""How often a broker is asked again before what a message came to is cut down, and to what."""

import pytest
from amqp import FrameError, NotFound, PreconditionFailed, RecoverableConnectionError
from amqp.exceptions import MessageNacked

from forebay.background.triggers import letters
from forebay.background.triggers.inlets import Delivered
from forebay.background.triggers.letters import Outgoing
from forebay.background.triggers.refusals import ENOUGH, MOST, SIXTH, TWICE, Refusals
from forebay.background.triggers.table import ResultTable, Trigger

TRIGGER = Trigger("memory://", "asked", "echo", ResultTable("told"), name="one")
MESSAGE = Delivered(1, b'{"id": "7", "source": "/shop"}', {"own": 1, "compression": "gzip"}, "a/b")
AGAIN = Delivered(2, MESSAGE.body, dict(MESSAGE.headers), MESSAGE.content_type)


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (PreconditionFailed("too large"), ENOUGH // TWICE),
        (FrameError("frame_too_large"), ENOUGH // TWICE),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), ENOUGH // TWICE),
        (ConnectionResetError("reset by peer"), ENOUGH // SIXTH),
    ],
)
def test_what_is_of_a_message_counts_until_it_is_settled(error: Exception, times: int) -> None:
    refusals = Refusals()
    for _ in range(times):
        assert refusals.of(AGAIN) == (0, refusals.of(AGAIN)[1])
        refusals.failed(MESSAGE, error)
    steps, why = refusals.of(AGAIN)
    assert steps == 1
    assert type(error).__name__ in why
    refusals.settled(AGAIN)
    assert refusals.of(MESSAGE) == (0, "")


@pytest.mark.parametrize(
    "error",
    [
        MessageNacked(),
        NotFound("no exchange"),
        RecoverableConnectionError("it stops"),
        TimeoutError("nothing is confirmed"),
    ],
)
def test_what_is_of_the_broker_does_not(error: Exception) -> None:
    refusals = Refusals()
    for _ in range(10 * ENOUGH):
        refusals.failed(MESSAGE, error)
    assert refusals.of(MESSAGE) == (0, "")


def test_so_many_messages_are_remembered() -> None:
    refusals = Refusals()
    for number in range(MOST + 1):
        for _ in range(ENOUGH // TWICE):
            refusals.failed(Delivered(number, b"%d" % number, {}, ""), FrameError("no"))
    assert refusals.of(Delivered(0, b"0", {}, ""))[0] == 0
    assert refusals.of(Delivered(0, b"1", {}, ""))[0] == 1


def test_a_result_has_a_dead_letter_after_it_that_a_note_and_that_nothing() -> None:
    result = Outgoing("", "told", b"made", "application/json", {}, key="k", predictions=("p",))
    forms = [
        letters.instead(TRIGGER, MESSAGE, result, refused="too large", steps=steps)
        for steps in (1, 2, 3)
    ]
    letter, note, nothing = forms
    assert nothing is None
    assert letter is not None
    assert letter.body == MESSAGE.body
    assert letter.headers["compression"] == "gzip", "it goes as it came, packed"
    assert "result, of 4 bytes: too large" in letter.headers["x-forebay-reason"]
    assert note is not None
    assert (note.routing_key, note.body) == ("asked.dead", b"")
    assert note.headers == {
        "own": 1,
        "x-forebay-trigger": "one",
        "x-forebay-reason": letter.headers["x-forebay-reason"],
        "x-forebay-refused": "too large",
        "x-forebay-bytes": len(MESSAGE.body),
        "x-forebay-event": "/shop 7",
    }


def test_a_dead_letter_has_a_note_after_it_and_that_nothing() -> None:
    letter = letters.dead(TRIGGER, MESSAGE, "why " * 10_000)
    assert len(letter.headers["x-forebay-reason"]) == letters.MOST_TOLD
    notes = [
        letters.instead(TRIGGER, MESSAGE, letter, refused="no " * 10_000, steps=steps)
        for steps in (1, 2)
    ]
    assert notes[0] is not None
    assert len(notes[0].headers["x-forebay-refused"]) == letters.MOST_TOLD
    assert notes[1] is None
