"""Drafted tokens of texts: which are checked, and what is learned of it (decision 0042)."""

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.generation import Guesses
from forebay.inference.generation.decoding import Checking
from forebay.inference.generation.drafts import Drafter
from forebay.inference.generation.stream import Stream
from forebay.inference.generation.worth import Costs, Record, length

log = logging.getLogger(__name__)

FEW: Final = 4
"""Texts side by side up to which any is drafted for: the others wait while one is checked."""

_TOLD_AFTER: Final = 10_000
"""Drafted tokens after which the log says how many were right."""


class Draft(msgspec.Struct, frozen=True):
    """Tokens that a text may go on with.

    Attributes:
        tokens: to be checked, at least one.
        record: of how such guesses fared for this text; None of what is known to follow.
    """

    tokens: Sequence[int]
    record: Record | None = None


class Speculating:
    """Chooses, before each step, which texts are to grow by several tokens.

    Args:
        drafter: guesses.
        costs: of runs on this machine.
        session: checks what is drafted.
        rows: tokens that are checked at once, at most.

    Attributes:
        session: as above.
        costs: as above.
        guesses: what drafts came to so far.
    """

    def __init__(self, drafter: Drafter, costs: Costs, session: Checking, *, rows: int) -> None:
        self.session = session
        self._drafter = drafter
        self.costs = costs
        # What need not be guessed.
        self._free = msgspec.structs.replace(costs, draft=0.0, draft_token=0.0)
        self._rows = rows
        self.guesses = self._told = Guesses(0, 0)

    def checked(self, stream: Stream, draft: Draft, right: int) -> None:
        """So many of the tokens that were drafted for a text were right."""
        if draft.record is None:
            return
        drafted = len(draft.tokens)
        stream.checked(draft.record, drafted, right)
        before, told = self.guesses, self._told
        # At once, for who looks from another thread.
        self.guesses = Guesses(before.drafted + drafted, before.accepted + right)
        late = Guesses(self.guesses.drafted - told.drafted, self.guesses.accepted - told.accepted)
        if late.drafted >= _TOLD_AFTER:
            log.info("%.0f %% of drafted tokens were right", 100 * late.rate)
            self._told = self.guesses

    def drafts(self, streams: Sequence[Stream]) -> list[tuple[Stream, Draft]]:
        """Those of some texts that are worth a check, and what to check."""
        if len(streams) > FEW:
            return []
        chosen: list[tuple[Stream, Draft]] = []
        for stream in streams:
            draft = self._draft(stream, len(streams))
            if draft is not None:
                chosen.append((stream, draft))
            else:
                stream.passed()
        return chosen

    def _draft(self, stream: Stream, texts: int) -> Draft | None:
        """What is known, or else expected, or else guessed: the first that is worth a check."""
        most = min(self._rows - 1, stream.ahead - 1)
        known = stream.known(most)
        if known:
            count = _worth(self._free, 1.0, stream, texts, len(known))
            return Draft(known[:count]) if count else None
        expected = () if stream.expected is None else stream.expected.next(most)
        chance = stream.expectation.chance
        count = _worth(self._free, chance, stream, texts, len(expected))
        if count:
            return Draft(expected[:count], stream.expectation)
        count = _worth(self.costs, stream.record.chance, stream, texts, most)
        tokens = self._drafter.draft(stream.slot, stream.so_far, count) if count else ()
        return Draft(tokens, stream.record) if tokens else None


def _worth(costs: Costs, chance: float, stream: Stream, texts: int, most: int) -> int:
    """How many tokens of `most` to check, where they cost this much and are right so often."""
    return length(chance, costs, texts=texts, tokens=stream.computed, most=most)
