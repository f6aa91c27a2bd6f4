"""Rows of one forward pass, filled up to the longest by one operation: as row by row."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.inference.backends.graph import padded

pieces = st.lists(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=40), min_size=1, max_size=40
)


@given(pieces, st.sampled_from([0, 1, 30_521]))
def test_rows_are_below_one_another_and_filled_up_behind(
    pieces: list[list[int]], fill: int
) -> None:
    arrays = [np.array(piece, np.int64) for piece in pieces]
    longest = max(map(len, pieces))
    there = np.arange(longest) < np.array([len(piece) for piece in pieces])[:, None]

    values = padded(arrays, there, fill=fill)

    expected: npt.NDArray[np.int64] = np.full((len(pieces), longest), fill, np.int64)
    for index, piece in enumerate(pieces):
        expected[index, : len(piece)] = piece
    assert values.dtype == np.int64
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values, expected)


def test_a_row_that_is_longer_than_it_says_is_an_error() -> None:
    there = np.arange(3) < np.array([2, 3])[:, None]
    with pytest.raises(ValueError, match="5"):
        padded([np.arange(3), np.arange(3)], there, fill=0)
