"""The state machine and the ids, whatever is tried on them."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import NotFound
from forebay.contract.prediction import PredictionId, Status

RANK = {Status.STARTING: 0, Status.PROCESSING: 1}


@given(st.lists(st.sampled_from(Status)))
def test_whatever_is_tried_the_first_terminal_status_stays(tried: list[Status]) -> None:
    path = [Status.STARTING]
    for status in tried:
        if path[-1].may_become(status):
            path.append(status)
    assert [status for status in path if status.terminal] in ([], [path[-1]])
    ranks = [RANK.get(status, 2) for status in path]
    assert ranks == sorted(set(ranks))
    # Nothing is refused that leads on: the first terminal status tried is the one that stays.
    first = next((status for status in tried if status.terminal), None)
    assert first is None or path[-1] is first


@given(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True), st.integers(0, 99_999), st.data()
)
def test_every_id_leads_back_to_its_model_and_shard(
    model: str, shard: int, data: st.DataObject
) -> None:
    id_ = PredictionId.new(model, shard)
    assert PredictionId.parse(id_.text) == id_
    cut = data.draw(st.integers(0, len(id_.text) - 1))
    try:
        other = PredictionId.parse(id_.text[:cut] + id_.text[cut + 1 :])
    except NotFound:
        return
    assert (other.model, other.shard) != (model, shard)


@given(st.text() | st.from_regex(r"[a-z0-9._-]*-[0-9]*-[0-9a-f]*", fullmatch=True))
def test_any_text_is_an_id_or_is_not_found(text: str) -> None:
    try:
        id_ = PredictionId.parse(text)
    except NotFound:
        return
    assert id_.text == text
    assert f"{id_.model}-" in text
