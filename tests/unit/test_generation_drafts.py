"""What is looked up for a text: what followed when its end was there before."""

import numpy as np
import pytest

from forebay.inference.generation.drafts import Lookup, Text


def drafted(tokens: list[int], most: int = 4) -> tuple[int, ...]:
    text = Text(np.array(tokens[:1], np.int64), len(tokens))
    for token in tokens[1:]:
        text.add(token)
    return tuple(Lookup().draft(0, text, most))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([7, 8, 1, 2, 3, 4, 9, 7, 8], (1, 2, 3, 4)),
        # The last time, not the first.
        ([7, 8, 1, 2, 7, 8, 3, 4, 7, 8], (3, 4, 7, 8)),
        # A longer end that was there counts more than a shorter one that was there later.
        ([5, 7, 8, 1, 1, 6, 7, 8, 2, 2, 5, 7, 8], (1, 1, 6, 7)),
        # What repeats itself goes on repeating itself.
        ([1, 2, 3, 1, 2, 3, 1, 2], (3, 1, 2, 3)),
        ([4, 4, 4], (4, 4, 4, 4)),
        # One token alone tells nothing.
        ([1, 5, 2, 5], ()),
        ([1, 2, 3], ()),
        ([1], ()),
    ],
)
def test_a_draft_is_what_followed_the_end_the_last_time(
    tokens: list[int], expected: tuple[int, ...]
) -> None:
    assert drafted(tokens) == expected


def test_a_draft_has_as_many_tokens_as_are_wanted() -> None:
    tokens = [7, 8, *range(20, 40), 7, 8]
    assert [drafted(tokens, most) for most in (1, 3)] == [(20,), (20, 21, 22)]
