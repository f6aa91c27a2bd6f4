"""A text that was expected: where the text that grows is in it, and what follows there.

Whoever asks for an edit of a text knows most of the answer (OpenAI's `prediction`). Unlike what
`drafts.Lookup` finds, it is followed from its beginning, and found again behind what differs.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from forebay.inference.generation.drafts import LONGEST, SHORTEST, Ids

NEAR: Final = 8
"""Tokens behind the place where texts parted, among which one alone shows where they meet again.
Elsewhere it takes `SHORTEST`: a lone token may be anywhere."""


class Expected:
    """Follows a text through the one that was expected.

    Args:
        tokens: expected, `[tokens]`.

    Attributes:
        tokens: as above.
    """

    def __init__(self, tokens: Ids) -> None:
        self.tokens = tokens
        self._met = np.zeros(len(tokens), np.bool_)
        self._at = 0
        self._together = True
        self._end: deque[int] = deque(maxlen=LONGEST)

    @property
    def met(self) -> int:
        """How many of the expected tokens the text has."""
        return int(np.count_nonzero(self._met))

    def add(self, token: int) -> None:
        """The text has one token more."""
        self._end.append(token)
        if self._together and self._at < len(self.tokens) and self.tokens[self._at] == token:
            self._met[self._at] = True
            self._at += 1
        else:
            self._together = self._find()

    def next(self, most: int) -> Sequence[int]:
        """Up to so many tokens that are expected now; none while the texts differ."""
        if not self._together:
            return ()
        following: list[int] = self.tokens[self._at : self._at + most].tolist()
        return following

    def _find(self) -> bool:
        """Look for the text's end: by as much of it as is there, the nearest place ahead."""
        for length in range(min(LONGEST, len(self._end)), 0, -1):
            place = self._place(np.array(self._end)[-length:])
            if place is not None:
                self._at = place + length
                self._met[place : self._at] = True
                return True
        return False

    def _place(self, end: Ids) -> int | None:
        """Where the expected text has some tokens: ahead, or else before."""
        length = len(end)
        places = np.flatnonzero(self.tokens[: max(len(self.tokens) - length + 1, 0)] == end[0])
        for offset in range(1, length):
            places = places[self.tokens[places + offset] == end[offset]]
        ahead = places[places + length > self._at]
        if length < SHORTEST:
            ahead = ahead[ahead < self._at + NEAR]
            return int(ahead[0]) if len(ahead) else None
        if len(ahead):
            return int(ahead[0])
        return int(places[-1]) if len(places) else None
