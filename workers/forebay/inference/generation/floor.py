"""What texts that nobody waits for are due while others have all slots. Pure: it counts tokens.

Urgent texts go first and take slots from the others. Left at that, the others would wait for as
long as urgent ones keep coming. So they have an account: of all tokens that are computed a share is
theirs, and once enough has come together one of them gets the next slot that is free. It keeps that
until it has written a stretch, whoever waits, and from then on for as long as there is something
left on the account. What it takes beyond that is a debt, to be paid before the next one's turn.
That is deficit round robin (Shreedhar and Varghese, 1995) between two classes, one of which may
always use what the other leaves. Urgent texts never lose a slot.
"""

STRETCH = 16
"""Tokens for which the account must be good for each that gets a slot, and that it then writes at
least: to begin costs more than that where its prompt has yet to be computed."""

MOST = 256.0
"""Tokens on the account at most. Where urgent texts are so long that no slot is free meanwhile, the
others don't get all of it back at once."""


class Floor:
    """The account of one engine.

    A token of a prompt counts as one that is written: on a CPU both take about as long.

    Args:
        share: of all tokens, 0 (nothing is due) to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._account = 0.0
        # Tokens that each of those that keep their slots has still to write.
        self._kept: dict[int, int] = {}
        # Tokens of this step: of all, and of the others where they kept or just had a slot.
        self._all = self._of_kept = self._of_free = 0

    @property
    def due(self) -> bool:
        """Whether one that nobody waits for is to have a slot, and to keep it."""
        return self._account >= STRETCH * (1 + len(self._kept))

    def keeps(self, id_: int) -> bool:
        """Whether a text's slot may not be taken from it."""
        return id_ in self._kept

    def give(self, id_: int) -> None:
        """A text that nobody waits for has what was due."""
        self._kept[id_] = STRETCH

    def leave(self, id_: int) -> None:
        """A text has no slot any more."""
        self._kept.pop(id_, None)

    def compute(self, id_: int, tokens: int, *, urgent: bool, writes: bool) -> None:
        """Tokens of a text were computed.

        Args:
            id_: the text.
            tokens: how many.
            urgent: whether somebody waits for it.
            writes: whether the text grew, rather than its prompt was read.
        """
        self._all += tokens
        if urgent:
            return
        if id_ not in self._kept:
            self._of_free += tokens
            return
        self._of_kept += tokens
        if writes:
            self._kept[id_] -= tokens

    def end_step(self, *, wanting: bool) -> None:
        """A step is over.

        Args:
            wanting: whether there is any text that nobody waits for, with a slot or without.
        """
        account = self._account + self._share * self._all - self._of_kept
        if account > 0:
            # What they get where nobody else wants it lessens what is due, and is no debt.
            account = max(account - self._of_free, 0.0) if wanting else 0.0
        self._account = min(account, MOST)
        self._all = self._of_kept = self._of_free = 0
        if self._account <= 0:
            for id_ in [id_ for id_, left in self._kept.items() if left <= 0]:
                del self._kept[id_]
