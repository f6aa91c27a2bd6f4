"""When a draft is worth its check: a policy, whatever runs cost."""

from hypothesis import assume, given
from hypothesis import strategies as st

from forebay.inference.generation.worth import MARGIN, Costs, Record, length

SECONDS = st.floats(1e-4, 1.0)
CHANCES = st.floats(0.0, 1.0)
COSTS = st.builds(Costs, run=SECONDS, row=SECONDS, token=st.floats(0.0, 1e-3), draft=SECONDS)
TEXTS, TOKENS, MOST = st.integers(1, 8), st.integers(1, 4_000), st.integers(1, 15)


def rate(count: int, chance: float, costs: Costs, tokens: int) -> float:
    """Tokens a second of a check, by the definition."""
    expected = 1 + sum(chance**place for place in range(1, count + 1))
    return expected / (costs.of(count + 1, tokens) + count * costs.draft)


@given(CHANCES, COSTS, TEXTS, TOKENS, MOST)
def test_what_is_drafted_beats_plain_steps_and_any_other_length(
    chance: float, costs: Costs, texts: int, tokens: int, most: int
) -> None:
    chosen = length(chance, costs, texts=texts, tokens=tokens, most=most)
    assert 0 <= chosen <= most
    plain = MARGIN * texts / costs.of(texts, tokens)
    rates = [plain, *(rate(count, chance, costs, tokens) for count in range(1, most + 1))]
    assert rates[chosen] >= max(rates) * (1 - 1e-9)


@given(COSTS, TEXTS, TOKENS, MOST)
def test_nothing_that_is_never_right_is_drafted(
    costs: Costs, texts: int, tokens: int, most: int
) -> None:
    assert length(0.0, costs, texts=texts, tokens=tokens, most=most) == 0


@given(CHANCES, COSTS, TEXTS, TOKENS, MOST)
def test_what_is_not_worth_it_alone_is_not_in_company(
    chance: float, costs: Costs, texts: int, tokens: int, most: int
) -> None:
    assume(length(chance, costs, texts=1, tokens=tokens, most=most) == 0)
    assert length(chance, costs, texts=texts, tokens=tokens, most=most) == 0


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 7))))
def test_a_chance_is_one_whatever_was_seen(drafts: list[tuple[int, int]]) -> None:
    record = Record()
    for drafted, right in drafts:
        record.checked(drafted, min(right, drafted))
        record.passed()
        assert 0 < record.chance < 1


def test_drafts_that_fail_are_given_up_and_tried_again_in_time() -> None:
    costs = Costs(run=3.0, row=1.0, token=0.0)
    record = Record()

    def drafts() -> int:
        return length(record.chance, costs, texts=1, tokens=100, most=7)

    assert drafts() > 0, "a text is given a try"
    for _ in range(10):
        record.checked(3, 0)
    assert drafts() == 0
    for _ in range(200):
        record.passed()
    assert drafts() > 0
    for _ in range(10):
        record.checked(drafts(), drafts())
    assert drafts() == 7, "what is always right is drafted as far as it goes"


@given(SECONDS, SECONDS, st.floats(1e-6, 1e-3))
def test_costs_are_found_in_what_runs_took(run: float, row: float, token: float) -> None:
    sizes = [(1, 24), (2, 24), (8, 24), (1, 576), (2, 576)]
    measured = [(rows, tokens, run + rows * (row + tokens * token)) for rows, tokens in sizes]
    found = Costs.fit(measured)
    for rows, tokens, seconds in measured:
        assert abs(found.of(rows, tokens) - seconds) < 1e-6 * seconds
