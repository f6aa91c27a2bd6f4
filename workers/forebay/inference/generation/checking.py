"""Drafted tokens of texts: which are checked, and what is learned of it (decision 0042)."""

import logging
from collections.abc import Sequence
from typing import Final

from forebay.inference.generation.decoding import Checking
from forebay.inference.generation.drafts import Drafter
from forebay.inference.generation.stream import Stream
from forebay.inference.generation.worth import Costs, length

log = logging.getLogger(__name__)

FEW: Final = 4
"""Texts side by side up to which any is drafted for: the others wait while one is checked."""

_TOLD_AFTER: Final = 10_000
"""Drafted tokens after which the log says how many were right."""


class Speculating:
    """Chooses, before each step, which texts are to grow by several tokens.

    Args:
        drafter: guesses.
        costs: of runs on this machine.
        session: checks what is drafted.
        rows: tokens that are checked at once, at most.
    """

    def __init__(self, drafter: Drafter, costs: Costs, session: Checking, *, rows: int) -> None:
        self.session = session
        self._drafter = drafter
        self._costs = costs
        self._rows = rows
        self._drafted = 0
        self._right = 0

    def checked(self, stream: Stream, drafted: int, right: int) -> None:
        """So many of the tokens that were drafted for a text were right."""
        stream.checked(drafted, right)
        self._drafted += drafted
        self._right += right
        if self._drafted >= _TOLD_AFTER:
            log.info("%.0f %% of drafted tokens were right", 100 * self._right / self._drafted)
            self._drafted = self._right = 0

    def drafts(self, streams: Sequence[Stream]) -> list[tuple[Stream, Sequence[int]]]:
        """Those of some texts that are worth a check, and what to check."""
        if len(streams) > FEW:
            return []
        chosen: list[tuple[Stream, Sequence[int]]] = []
        for stream in streams:
            tokens = self._draft(stream, len(streams))
            if tokens:
                chosen.append((stream, tokens))
            else:
                stream.record.passed()
        return chosen

    def _draft(self, stream: Stream, texts: int) -> Sequence[int]:
        most = min(self._rows - 1, stream.ahead - 1)
        known = stream.known(most)
        count = length(
            1.0 if known else stream.record.chance,
            self._costs,
            texts=texts,
            tokens=stream.computed,
            most=len(known) or most,
        )
        if not count:
            return ()
        return known[:count] or self._drafter.draft(stream.slot, stream.so_far, count)
