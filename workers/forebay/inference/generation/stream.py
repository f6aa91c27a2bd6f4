"""One text as it grows: what is wanted, what is computed, what comes next."""

from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

import msgspec
import numpy as np

from forebay.inference.generation.decoding import Kept
from forebay.inference.generation.drafts import Text
from forebay.inference.generation.expected import Expected
from forebay.inference.generation.prompts import Prompt
from forebay.inference.generation.protocol import Delta, Wanted
from forebay.inference.generation.sampling import Chosen, Sampler
from forebay.inference.generation.slots import Ids
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.generation.worth import EXPECTED, Record
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
        turn: when a part of its prompt was computed last, or it got its slot, in parts.
        token: the last one, which is computed next.
        slot: the one it has, -1 where it has none.
        parked: keys and values of a text that gave its slot to another.
        sampler: chooses its tokens.
        so_far: prompt and text, for who guesses what follows.
        expected: what the request expects of the text; None where it doesn't say.
        record: how guesses have fared.
        expectation: how what was expected has.
        drafted: how many tokens were guessed.
        accepted: how many of those were right.
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
        self.turn = 0
        self.token = -1
        self.slot = -1
        self.parked: Kept | None = None
        room = capacity - len(self.prompt)
        most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        prompt = wanted.prompt
        held = prompt.held if isinstance(prompt, Prompt) else None
        self._writer = Writer(sampling, vocabulary, end_ids=end_ids, max_tokens=most, held=held)
        guide = None if held is None else held.begin()
        self.sampler = Sampler(sampling, self.prompt.tolist(), wanted.row, guide)
        self._writer.replay(wanted.written)
        expected = prompt.expected if isinstance(prompt, Prompt) else None
        self.expected = None if expected is None else Expected(expected)
        for token in wanted.written:
            self.sampler.add(token)
            if self.expected is not None:
                self.expected.add(token)
        # Computed one by one as they were before, so that what follows is bit for bit what would
        # have followed.
        self._again = deque(wanted.written)
        self.so_far = Text(self.prompt, most)
        self.record = Record()
        self.expectation = Record(EXPECTED)
        self.drafted = 0
        self.accepted = 0

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be computed."""
        return max(len(self.prompt) - self.computed, 0)

    @property
    def over(self) -> bool:
        """Whether the text has ended."""
        return self._writer.finish is not None

    @property
    def ahead(self) -> int:
        """Tokens that the text may still have."""
        return self._writer.left + len(self._again)

    def known(self, most: int) -> Sequence[int]:
        """The next of the tokens that were written elsewhere, up to so many."""
        return tuple(islice(self._again, most))

    def repeats(self) -> bool:
        """Take the next of the tokens that were written elsewhere; False where none is left."""
        if not self._again:
            return False
        self.token = self._again.popleft()
        self.so_far.add(self.token)
        return True

    def checked(self, record: Record, drafted: int, right: int) -> None:
        """Of so many guessed tokens so many were right; whose record it is."""
        record.checked(drafted, right)
        self.drafted += drafted
        self.accepted += right

    def passed(self) -> None:
        """It grew by a step without a guess."""
        self.record.passed()
        self.expectation.passed()

    def add(self, chosen: Chosen) -> None:
        """The text grows by a token."""
        self.token = chosen.token
        self.so_far.add(chosen.token)
        self.sampler.add(chosen.token)
        if self.expected is not None:
            self.expected.add(chosen.token)
        self._writer.add(chosen)

    def delta(self) -> Delta | None:
        """What there is to tell since the last one."""
        delta = self._writer.delta(self.wanted.id)
        if delta is None or delta.finish is None:
            return delta
        return msgspec.structs.replace(
            delta,
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            expected_tokens=0 if self.expected is None else len(self.expected.tokens),
            met_tokens=0 if self.expected is None else self.expected.met,
        )
