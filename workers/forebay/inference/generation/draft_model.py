"""Drafts by another model, which is smaller and has the same tokens.

Speculative decoding (Leviathan et al., "Fast inference from transformers via speculative decoding",
2023), with drafts that are taken where the text comes to the same token, greedy or drawn.
"""

from collections.abc import Sequence

import numpy as np

from forebay.contract.errors import BackendFailed
from forebay.inference.generation.drafts import Text
from forebay.inference.generation.session import DecoderSession, Logits


class ModelDrafts:
    """The likeliest tokens of another model; see `drafts.Drafter`.

    It has keys and values of its own for each slot. What it lacks of a text is computed in parts,
    one for each draft that is asked for, and until all is there it has no guess.

    Args:
        session: of the other model, with as many slots.
        vocabulary: how many tokens the texts' model knows.
    """

    def __init__(self, session: DecoderSession, vocabulary: int) -> None:
        self._session = session
        self._vocabulary = vocabulary
        self._tokens = np.zeros((session.pool.slots, session.pool.capacity), np.int64)
        self._held = np.zeros(session.pool.slots, np.int64)

    def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
        """See `drafts.Drafter`."""
        tokens = text.tokens
        most = min(most, self._session.pool.capacity - len(tokens))
        if most < 1:
            return ()
        try:
            logits = self._catch_up(slot, text)
            if logits is None:
                return ()
            drafted = [self._likeliest(logits)]
            while len(drafted) < most:
                filled = self._held[slot : slot + 1].copy()
                (logits,) = self._session.decode(slot, np.array(drafted[-1:]), filled)
                self._hold(slot, drafted[-1:])
                drafted.append(self._likeliest(logits))
        except BackendFailed:  # the text is none the worse for it
            self._held[slot] = 0
            return ()
        return drafted

    def close(self) -> None:
        """Drop the other model."""
        self._session.close()

    def _catch_up(self, slot: int, text: Text) -> Logits | None:
        """Compute what the slot lacks of a text; logits of what follows, if that is all of it."""
        tokens = text.tokens
        held = self._tokens[slot, : min(self._held[slot], len(tokens) - 1)]
        differs = np.flatnonzero(held != tokens[: len(held)])
        start = int(differs[0]) if len(differs) else len(held)
        self._held[slot] = start
        part = tokens[start : start + self._session.chunk]
        logits = self._session.prefill(slot, part, filled=start)
        self._hold(slot, part)
        return logits if start + len(part) == len(tokens) else None

    def _hold(self, slot: int, tokens: Sequence[int] | np.ndarray) -> None:
        held = int(self._held[slot])
        self._tokens[slot, held : held + len(tokens)] = tokens
        self._held[slot] = held + len(tokens)

    def _likeliest(self, logits: Logits) -> int:
        return int(logits[: self._vocabulary].argmax())
