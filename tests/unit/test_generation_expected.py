"""A text is followed through the one that was expected, and found again behind what differs."""

from collections.abc import Iterable

import numpy as np
import pytest

from forebay.inference.generation.expected import NEAR, Expected


def grown(expected: Iterable[int], written: Iterable[int]) -> Expected:
    made = Expected(np.array(list(expected), np.int64))
    for token in written:
        made.add(token)
    return made


@pytest.mark.parametrize(
    ("written", "following"),
    [
        # From its beginning on, without a token of it.
        ([], (10, 11, 12)),
        ([10, 11], (12, 13, 14)),
        # Something else: nothing is expected.
        ([10, 11, 99], ()),
        # A token in place of another, one that is left out, one more.
        ([10, 11, 99, 13], (14, 15, 16)),
        ([10, 11, 13], (14, 15, 16)),
        ([10, 11, 99, 12], (13, 14, 15)),
        # A beginning that nobody expected.
        ([99, 98, 10], (11, 12, 13)),
        # One token far ahead may stand there by chance; two don't.
        ([10, 11, 25], ()),
        ([10, 11, 25, 26], (27, 28, 29)),
        # What was there before is there again.
        ([10, 11, 12, 13, 10, 11], (12, 13, 14)),
        # Of the end no more than there is.
        ([28], ()),
        ([27, 28], (29,)),
        ([27, 28, 29], ()),
        ([27, 28, 29, 10, 11], (12, 13, 14)),
    ],
)
def test_what_follows_is_what_is_expected_there(
    written: list[int], following: tuple[int, ...]
) -> None:
    assert tuple(grown(range(10, 30), written).next(3)) == following


def test_of_several_places_the_next_one_ahead_counts() -> None:
    lines = [1, 2, 50, 1, 2, 60, 1, 2, 70]
    assert tuple(grown(lines, [1, 2, 50, 1, 2]).next(1)) == (60,)
    assert tuple(grown(lines, [1, 2, 50, 99, 98, 1, 2]).next(1)) == (60,)


def test_the_longest_end_that_is_there_counts() -> None:
    expected = [5, 99, 98, *range(100, 110), 7, 8, 9, 6, 200, 7, 8, 9, 5, 201]
    assert tuple(grown(expected, [1, 7, 8, 9, 5]).next(1)) == (201,)


def test_what_is_expected_is_counted_once() -> None:
    assert grown([], [1, 2]).met == 0
    assert grown([1, 2, 3], []).met == 0
    assert grown([1, 2, 3], [1, 2, 3]).met == 3
    assert grown([1, 2, 3], [1, 2, 3, 1, 2, 3]).met == 3
    assert grown(range(10, 30), [10, 11, 99, 13, 14]).met == 4
    assert grown([1, 2], [7, 8, 9, 1, 2]).met == 2


def test_shorter_than_what_is_looked_for() -> None:
    assert tuple(grown([1], [5, 6, 7, 8]).next(4)) == ()
    assert tuple(grown([1, 2], [5, 6, 7, 8, 1]).next(4)) == (2,)


def test_one_token_is_looked_for_nearby() -> None:
    expected = range(100)
    assert grown(expected, [0, 1, 1 + NEAR]).next(1)
    assert not grown(expected, [0, 1, 2 + NEAR]).next(1)
