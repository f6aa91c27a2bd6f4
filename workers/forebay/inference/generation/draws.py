"""Random numbers of one request, each told by its place, whatever else runs or ran before."""

import secrets

import numpy as np

BLOCK = 64
"""Numbers made at a time."""

_WORDS_A_COUNT = 4
"""Words that the generator makes for one value of its counter."""

_KEY_WORD = 1 << 64


class Draws:
    """Uniform numbers in [0, 1), one for each token of a text.

    Philox 4x64-10, a generator that is a function of key and counter (Salmon et al., "Parallel
    random numbers: as easy as 1, 2, 3", 2011): number n needs none of those before it, so a text
    that goes on elsewhere goes on with the same numbers.

    Args:
        seed: of the request; None is one that nobody knows.
        row: rows of one seed have sequences of their own.
    """

    def __init__(self, seed: int | None, row: int) -> None:
        drawn = secrets.randbits(64) if seed is None else seed % _KEY_WORD
        self._key = drawn | row << 64
        self._block = -1
        self._numbers: list[float] = []

    def at(self, position: int) -> float:
        """The number for the token at this place of the text, 0 for the first."""
        block, offset = divmod(position, BLOCK)
        if block != self._block:
            counter = block * (BLOCK // _WORDS_A_COUNT)
            words = np.random.Philox(key=self._key, counter=counter).random_raw(BLOCK)
            self._numbers = ((words >> np.uint64(11)) * 2.0**-53).tolist()
            self._block = block
        return self._numbers[offset]
