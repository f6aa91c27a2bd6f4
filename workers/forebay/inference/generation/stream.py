"""One text as it grows: what is wanted, what is computed, what comes next."""

from collections import deque
from collections.abc import Collection

import numpy as np

from forebay.inference.generation.pool import Cache
from forebay.inference.generation.protocol import Delta, Wanted
from forebay.inference.generation.sampling import Chosen, Sampler
from forebay.inference.generation.slots import Ids
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.generation.writer import Writer


class Stream:
    """A request's state.

    Args:
        wanted: the request.
        vocabulary: of the model.
        end_ids: tokens that end a text.
        capacity: tokens that a slot has room for.

    Attributes:
        wanted: as above.
        prompt: its token ids.
        computed: tokens whose keys and values are in the slot, or parked.
        cached: how many of the prompt's were found there, or copied.
        turns: how many parts of its prompt were computed.
        token: the last one, which is computed next.
        slot: the one it has, -1 where it has none.
        parked: keys and values of a text that gave its slot to another.
        sampler: chooses its tokens.
    """

    def __init__(
        self,
        wanted: Wanted,
        vocabulary: Vocabulary,
        *,
        end_ids: Collection[int],
        capacity: int,
    ) -> None:
        sampling = wanted.sampling
        self.wanted = wanted
        self.prompt: Ids = np.asarray(wanted.prompt.data, np.int64)
        self.computed = 0
        self.cached = 0
        self.turns = 0
        self.token = -1
        self.slot = -1
        self.parked: Cache | None = None
        room = capacity - len(self.prompt)
        most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        held = wanted.prompt.held
        self._writer = Writer(sampling, vocabulary, end_ids=end_ids, max_tokens=most, held=held)
        guide = None if held is None else held.begin()
        self.sampler = Sampler(sampling, self.prompt.tolist(), wanted.row, guide)
        self._writer.replay(wanted.written)
        for token in wanted.written:
            self.sampler.add(token)
        # Computed one by one as they were before, so that what follows is bit for bit what would
        # have followed.
        self._again = deque(wanted.written)

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be computed."""
        return max(len(self.prompt) - self.computed, 0)

    @property
    def over(self) -> bool:
        """Whether the text has ended."""
        return self._writer.finish is not None

    def repeats(self) -> bool:
        """Take the next of the tokens that were written elsewhere; False where none is left."""
        if not self._again:
            return False
        self.token = self._again.popleft()
        return True

    def add(self, chosen: Chosen) -> None:
        """The text grows by a token."""
        self.token = chosen.token
        self.sampler.add(chosen.token)
        self._writer.add(chosen)

    def delta(self) -> Delta | None:
        """What there is to tell since the last one."""
        delta = self._writer.delta(self.wanted.id)
        if delta is None or delta.finish is None:
            return delta
        return Delta(
            delta.id,
            delta.text,
            delta.tokens,
            delta.logprobs,
            delta.finish,
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            calls=delta.calls,
        )
