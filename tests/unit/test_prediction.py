"""The state machine and the ids."""

import itertools

import pytest

from forebay.contract.errors import NotFound
from forebay.contract.prediction import TERMINAL, PredictionId, Status

NEXT = {
    Status.STARTING: {Status.PROCESSING, *TERMINAL},
    Status.PROCESSING: set(TERMINAL),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Status, Status)))
def test_only_the_drawn_transitions_are_legal(before: Status, after: Status) -> None:
    assert before.may_become(after) == (after in NEXT.get(before, set()))


def test_four_statuses_are_terminal() -> None:
    assert {status for status in Status if status.terminal} == {
        Status.SUCCEEDED,
        Status.FAILED,
        Status.CANCELED,
        Status.EXPIRED,
    }


@pytest.mark.parametrize("model", ["echo", "a", "bge-small-en-v1.5", "m-3-x", "0"])
@pytest.mark.parametrize("shard", [0, 7, 1023])
def test_an_id_says_which_model_and_shard_it_belongs_to(model: str, shard: int) -> None:
    new = PredictionId.new(model, shard)
    assert PredictionId.parse(new.text) == new
    assert (new.model, new.shard) == (model, shard)


def test_ids_are_not_repeated() -> None:
    assert len({PredictionId.new("echo").text for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo",
        "echo-0",
        "echo-0-xyz",
        "echo-0-" + "a" * 19,
        "echo-0-" + "a" * 21,
        "echo-0-" + "A" * 20,
        "echo-x-" + "a" * 20,
        "Echo-0-" + "a" * 20,
        "-0-" + "a" * 20,
        "echo-0-" + "a" * 20 + "\n",
        "ec{ho-0-" + "a" * 20,
        "echo-٣-" + "a" * 20,
        "echo-" + "1" * 5_000 + "-" + "a" * 20,
    ],
)
def test_a_text_that_is_no_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="not a prediction id") as caught:
        PredictionId.parse(text)
    assert len(caught.value.message) < 200
