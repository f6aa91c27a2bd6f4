"""The split of requests over versions: shares, stickiness, and how little moves."""

import math
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from forebay.contract.versions import choose

KEYS = [f"key {n}".encode() for n in range(400)]

versions = st.text("abcdefgh0123456789", min_size=1, max_size=8)
shares = st.dictionaries(versions, st.floats(0, 100), min_size=1, max_size=5).filter(
    lambda given: math.fsum(given.values()) > 1
)


def off(share: float) -> float:
    """How far a count of `KEYS` may be off its expectation: six standard deviations, and one."""
    return 6 * math.sqrt(len(KEYS) * share * (1 - share)) + 1


@given(shares)
def test_versions_get_keys_by_their_shares(shares: dict[str, float]) -> None:
    total = math.fsum(shares.values())
    chosen = [choose(shares, key) for key in KEYS]
    for version, share in shares.items():
        expected = share / total
        assert abs(chosen.count(version) - expected * len(KEYS)) <= off(expected)


@given(shares)
def test_requests_without_a_key_are_split_by_shares_too(shares: dict[str, float]) -> None:
    total = math.fsum(shares.values())
    chosen = [choose(shares, None) for _ in KEYS]
    for version, share in shares.items():
        expected = share / total
        assert abs(chosen.count(version) - expected * len(KEYS)) <= off(expected)


@given(shares, st.binary(max_size=40), st.randoms())
def test_a_key_keeps_its_version_in_whatever_order_and_unit_shares_are_told(
    shares: dict[str, float], key: bytes, random: Random
) -> None:
    told = list(shares.items())
    random.shuffle(told)
    assert choose(dict(told), key) == choose(shares, key)


@given(shares, st.data())
def test_when_one_version_grows_keys_move_to_it_and_nowhere_else(
    shares: dict[str, float], data: st.DataObject
) -> None:
    grows = data.draw(st.sampled_from(sorted(shares)))
    more = {**shares, grows: shares[grows] + data.draw(st.floats(1, 200))}
    for key in KEYS[:100]:
        before, after = choose(shares, key), choose(more, key)
        assert after in (before, grows)


@given(shares, versions, st.floats(1, 100))
def test_a_new_version_takes_keys_and_gives_them_back_when_it_goes(
    shares: dict[str, float], new: str, share: float
) -> None:
    assume(new not in shares)
    for key in KEYS[:100]:
        before = choose(shares, key)
        assert choose({**shares, new: share}, key) in (before, new)
        assert choose({**shares, new: 0.0}, key) == before


@given(st.floats(1, 99), st.floats(1, 99))
def test_of_two_versions_only_the_difference_moves(one: float, other: float) -> None:
    before = [choose({"a": 100 - one, "b": one}, key) for key in KEYS]
    after = [choose({"a": 100 - other, "b": other}, key) for key in KEYS]
    moved = sum(x != y for x, y in zip(before, after, strict=True))
    assert abs(moved - abs(one - other) / 100 * len(KEYS)) <= 2 * off(0.5)
