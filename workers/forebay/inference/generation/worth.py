"""Whether a draft is worth its check: what runs cost on this machine, and how drafts have fared.

Pure. Several tokens of one text cost less in one run than in as many, and more than one alone; so
a draft wins where enough of it is right, and where the text has little company: rows beside one
another share the weights as well as drafted ones do, and none of them is a guess.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

MARGIN = 1.05
"""How much quicker a check has to be than plain steps: costs are measured, not known."""

_LIKELY, _UNLIKELY = 1.0, 1.0
"""What a text's drafts begin with: as if one token had been right and one wrong."""

EXPECTED = 4.0
"""Likewise, tokens that were right, of what the request says the text will be like."""

_FORGETS = 0.9
"""What a draft leaves of the weight of those before it."""

_RELENTS = 0.98
"""What a step without a draft leaves of it: in time a text is given another try."""


class Costs(msgspec.Struct, frozen=True):
    """Seconds of a run.

    Attributes:
        run: for weights, whatever the rows.
        row: more for each row.
        token: more for each token that a row looks back at.
        draft: of making one drafted token.
        draft_token: more for each token that who drafts looks back at.
    """

    run: float
    row: float
    token: float
    draft: float = 0.0
    draft_token: float = 0.0

    def of(self, rows: int, length: int) -> float:
        """Of so many rows that look back at so many tokens each."""
        return self.run + rows * (self.row + length * self.token)

    def of_draft(self, tokens: int, length: int) -> float:
        """Of making so many drafted tokens for a text of so many."""
        return tokens * (self.draft + length * self.draft_token)

    @classmethod
    def fit(cls, measured: Iterable[tuple[int, int, float]]) -> "Costs":
        """Those that come nearest to what runs took.

        Args:
            measured: rows, tokens that each looked back at, seconds; of several sizes.
        """
        rows, lengths, seconds = np.array(list(measured), np.float64).T
        known = np.stack([np.ones_like(rows), rows, rows * lengths], axis=1)
        # Relative to what they took, so that large runs don't outweigh small ones.
        found, *_ = np.linalg.lstsq(known / seconds[:, None], np.ones_like(seconds), rcond=None)
        run, row, token = np.maximum(found, 0.0).tolist()
        return cls(run, row, token)


class Record:
    """How the drafts of one text have fared; late ones count most.

    Args:
        likely: what it begins with: as if so many tokens had been right, and one wrong.
    """

    def __init__(self, likely: float = _LIKELY) -> None:
        self._likely = likely
        self._right = 0.0
        self._wrong = 0.0

    @property
    def chance(self) -> float:
        """Of a drafted token to be right, if those before it are."""
        right = self._right + self._likely
        return right / (right + self._wrong + _UNLIKELY)

    def checked(self, drafted: int, right: int) -> None:
        """Of so many drafted tokens so many were right."""
        self._right = self._right * _FORGETS + right
        self._wrong = self._wrong * _FORGETS + (right < drafted)

    def passed(self) -> None:
        """A step was made without a draft."""
        self._right *= _RELENTS
        self._wrong *= _RELENTS


def length(chance: float, costs: Costs, *, texts: int, tokens: int, most: int) -> int:
    """How many tokens to draft for one of some texts; 0 where plain steps are quicker.

    Tokens a second of a check are held against those of a step of all texts.

    Args:
        chance: of a drafted token to be right, if those before it are.
        costs: of this machine.
        texts: that grow side by side, this one included.
        tokens: that the text has.
        most: tokens to draft at most.
    """
    best, wanted = MARGIN * texts / costs.of(texts, tokens), 0
    expected = 1.0
    for count in range(1, most + 1):
        expected += chance**count
        rate = expected / (costs.of(1 + count, tokens) + costs.of_draft(count, tokens))
        if rate > best:
            best, wanted = rate, count
    return wanted
