"""Drafts: tokens that a text may go on with, guessed cheaply, to be checked in one run."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

LONGEST: Final = 4
"""Tokens of a text's end that are looked for; if they are not there, fewer."""

SHORTEST: Final = 2
"""Fewer tell nothing: nearly every token was there before."""


class Text:
    """A prompt and its text so far, as drafts look at it.

    Args:
        prompt: `[tokens]`.
        room: tokens that the text may have.
    """

    def __init__(self, prompt: Ids, room: int) -> None:
        self._count = len(prompt)
        self._all = np.empty(self._count + room, np.int64)
        self._all[: self._count] = prompt

    @property
    def tokens(self) -> Ids:
        """Prompt and text, `[tokens]`."""
        return self._all[: self._count]

    def add(self, token: int) -> None:
        """The text has one token more."""
        self._all[self._count] = token
        self._count += 1


class Drafter(Protocol):
    """Guesses how texts go on. A guess costs time alone: what is wrong is found out."""

    def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
        """Up to so many tokens that a text may go on with; none where there is no guess.

        Args:
            slot: which place the text has among those that grow.
            text: the text.
            most: tokens that are wanted at most.
        """
        ...


class Lookup:
    """What followed the last time that the text's end was there, in the text or its prompt.

    Prompt lookup decoding (Saxena, 2023; github.com/apoorvumang/prompt-lookup-decoding): answers
    that quote, sum up or correct what they were given repeat it at length.
    """

    def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
        """See `Drafter`. What goes on beyond the end goes on with itself."""
        tokens = text.tokens
        for length in range(min(LONGEST, len(tokens) - 1), SHORTEST - 1, -1):
            place = _last(tokens, length)
            if place >= 0:
                follows = tokens[place + length : place + length + most]
                return tuple(np.resize(follows, most).tolist())
        return ()


def _last(tokens: Ids, length: int) -> int:
    """Where the last `length` tokens were for the last time before; -1 where they were not."""
    end = tokens[len(tokens) - length :]
    places = np.flatnonzero(tokens[: len(tokens) - length] == end[0])
    for offset in range(1, length):
        places = places[tokens[places + offset] == end[offset]]
    return int(places[-1]) if len(places) else -1
