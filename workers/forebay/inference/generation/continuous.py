"""The generation loop: continuous batching on a fixed set of slots.

    submit ─▶ queue ─▶ slot: prompt, part by part ─▶ a token a step ─▶ over: the slot is free
                         ▲                                │
                         └── parked, where somebody who waits needs the slot

A step makes one token for each text that has its prompt behind it, in one run, or checks what was
drafted for a text in a run of its own, and then computes parts of prompts, no more of them than
running texts can bear to wait for. What a text comes to does not depend on the others: kernels
give each row of a step the same bits whoever is beside it, and each part of a prompt the same
wherever it was cut (decision 0038).
"""

from collections.abc import Collection, Sequence

import numpy as np

from forebay.contract.errors import BackendFailed, ForebayError
from forebay.contract.generation import GenerationTable
from forebay.inference.generation.checking import Draft, Speculating
from forebay.inference.generation.decoding import Decoding, Logits
from forebay.inference.generation.floor import Floor
from forebay.inference.generation.protocol import Delta, Wanted
from forebay.inference.generation.sampling import Chosen, choose
from forebay.inference.generation.slots import LEFT, Slots
from forebay.inference.generation.stream import Stream
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.generation.waiting import Waiting

DEFAULT_FLOOR = GenerationTable().bulk_share

COPIED_FROM = 16
"""Tokens in common from which on copying another slot's beats computing them."""

MOVED_AFTER = 8
"""Steps for which a row may run empty between others before one of them is moved there. A move
costs about as much as so many rows."""


class ContinuousEngine:
    """Generates texts side by side; see `protocol.Engine`.

    Args:
        session: runs the model; computes at least three tokens of a prompt at once.
        vocabulary: what tokens stand for.
        end_ids: tokens that end a text.
        floor: what part of all tokens those texts have at least that nobody waits for, 0..1.
    """

    def __init__(
        self,
        session: Decoding,
        vocabulary: Vocabulary,
        end_ids: Collection[int],
        *,
        floor: float = DEFAULT_FLOOR,
    ) -> None:
        if session.chunk <= LEFT:
            raise ValueError(f"parts of prompts are more than {LEFT} tokens, not {session.chunk}")
        self._session = session
        self._pool = session.pool
        self._vocabulary = vocabulary
        self._end_ids = frozenset(end_ids)
        self._slots = Slots(self._pool.slots, self._pool.capacity)
        self._waiting = Waiting()
        self._floor = Floor(floor)
        self._turn = 0
        # By id, in the order in which they got their slots.
        self._running: dict[int, Stream] = {}
        self._over: list[Stream] = []
        # Of slots that the last step left empty between others: how many did so in a row.
        self._empty_steps: dict[int, int] = {}
        self._speculating: Speculating | None = None

    @property
    def slots(self) -> int:
        """How many texts grow at once."""
        return self._pool.slots

    @property
    def free(self) -> int:
        """Slots that no text has."""
        return self._slots.free

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._running or self._waiting or self._over)

    def speculate(self, speculating: Speculating) -> None:
        """Check drafted tokens from now on: texts come to the same, and sooner."""
        self._speculating = speculating

    def submit(self, wanted: Wanted) -> None:
        """Take a request in. Its prompt is shorter than a slot: `prepare` has seen to that."""
        stream = Stream(
            wanted, self._vocabulary, end_ids=self._end_ids, capacity=self._pool.capacity
        )
        if stream.over:  # all of it was written elsewhere
            self._over.append(stream)
        else:
            self._waiting.add(stream)

    def cancel(self, id_: int) -> None:
        """Drop a request, if it is there."""
        stream = self._running.pop(id_, None)
        if stream is not None:
            self._slots.leave(stream.slot)
            self._floor.leave(id_)
        elif not self._waiting.drop(id_):
            self._over = [stream for stream in self._over if stream.wanted.id != id_]

    def step(self) -> Sequence[Delta]:
        """Let each text grow by a token, and take in parts of prompts."""
        self._admit()
        streams = self._writing()
        deltas: list[Delta] = []
        speculating = self._speculating
        if speculating is not None:
            for stream, draft in speculating.drafts(streams):
                deltas += self._check(stream, draft, speculating)
                streams.remove(stream)
        deltas += self._decode(streams)
        deltas += self._prefill()
        self._floor.end_step(
            wanting=self._waiting.others
            or any(not stream.wanted.urgent for stream in self._running.values())
        )
        deltas += [delta for stream in self._over if (delta := stream.delta())]
        self._over.clear()
        return deltas

    # Who has a slot

    def _admit(self) -> None:
        for stream in self._others():
            if self._floor.due:
                self._floor.give(stream.wanted.id)
        while self._waiting:
            if not self._slots.free and not (self._waiting.urgent and self._interrupt()):
                return
            due = self._waiting.others and self._floor.due
            stream = self._waiting.next(urgent=not due)
            if due:
                self._floor.give(stream.wanted.id)
            stream.slot = self._slots.take(stream.prompt)
            stream.turn = self._turn - 1  # before whoever had the last one, and behind the others
            self._running[stream.wanted.id] = stream
            if stream.parked is not None:
                self._pool.put(stream.slot, stream.parked)
                stream.parked = None
                held = self._slots.held(stream.slot)
                self._slots.hold(stream.slot, stream.prompt[held:])
            else:
                stream.computed = stream.cached = self._slots.held(stream.slot)

    def _interrupt(self) -> bool:
        """Take the slot of the one that came last of those that nobody waits for, if any."""
        stream = next(reversed(self._others()), None)
        if stream is None:
            return False
        if not stream.left:
            stream.parked = self._pool.take(stream.slot, stream.computed)
        self._let_go(stream)
        self._waiting.interrupted(stream)
        return True

    def _others(self) -> list[Stream]:
        """Those with slots that nobody waits for, and that don't keep them."""
        return [
            stream
            for stream in self._running.values()
            if not stream.wanted.urgent and not self._floor.keeps(stream.wanted.id)
        ]

    def _let_go(self, stream: Stream, *, forget: bool = False) -> None:
        del self._running[stream.wanted.id]
        self._floor.leave(stream.wanted.id)
        self._slots.leave(stream.slot, forget=forget)
        stream.slot = -1

    # One token for each

    def _writing(self) -> list[Stream]:
        """Those with their prompts behind them, in the order of their slots."""
        streams = [stream for stream in self._running.values() if not stream.left]
        return sorted(streams, key=lambda stream: stream.slot)

    def _decode(self, streams: Sequence[Stream]) -> list[Delta]:
        if not streams:
            return []
        taken = [stream.slot for stream in streams]
        first, end = taken[0], taken[-1] + 1
        empty = sorted(set(range(first, end)).difference(taken))
        rows = [slot - first for slot in taken]
        tokens, computed = [0] * (end - first), [0] * (end - first)
        for row, stream in zip(rows, streams, strict=True):
            tokens[row], computed[row] = stream.token, stream.computed
        # A row between others runs as well, on nothing; what it writes is put right again.
        kept = [(slot, self._pool.take(slot, 1)) for slot in empty]
        try:
            logits = self._session.decode(
                first, np.array(tokens, np.int64), np.array(computed, np.int64)
            )
        except BackendFailed as error:
            return [self._fail(stream, error) for stream in streams]
        finally:
            for slot, cache in kept:
                self._pool.put(slot, cache)
        for stream in streams:
            stream.computed += 1
            self._count(stream, 1, writes=True)
        deltas = self._grow(streams, logits, rows)
        self._close_up(empty)
        return deltas

    def _close_up(self, empty: Sequence[int]) -> None:
        """Move a text from an end of the rows to a slot that ran empty for long."""
        self._empty_steps = {slot: self._empty_steps.get(slot, 0) + 1 for slot in empty}
        for slot in empty:
            if self._empty_steps[slot] < MOVED_AFTER or not self._slots.is_free(slot):
                continue
            streams = self._writing()
            if not streams or not streams[0].slot < slot < streams[-1].slot:
                continue
            stream = min(streams[0], streams[-1], key=lambda stream: stream.computed)
            self._pool.swap(stream.slot, stream.computed, slot, self._slots.held(slot))
            self._slots.swap(stream.slot, slot)
            stream.slot = slot
            self._empty_steps[slot] = 0

    def _grow(self, streams: Sequence[Stream], logits: Logits, rows: Sequence[int]) -> list[Delta]:
        """Give each stream its next token, of the logits in its row."""
        choosing = [
            (stream, row) for stream, row in zip(streams, rows, strict=True) if not stream.repeats()
        ]
        if not choosing:
            return []
        if len(choosing) < len(logits):
            logits = logits[[row for _, row in choosing]]
        chosen = choose(logits, [stream.sampler for stream, _ in choosing])
        deltas = [
            self._take(stream, token) for (stream, _), token in zip(choosing, chosen, strict=True)
        ]
        return [delta for delta in deltas if delta is not None]

    def _take(self, stream: Stream, chosen: Chosen | None) -> Delta | None:
        if chosen is None:
            return self._fail(
                stream,
                stream.sampler.fault
                or BackendFailed(
                    "The model's logits for this text are no numbers: it can't go on. Other "
                    "texts are not concerned."
                ),
            )
        stream.add(chosen)
        delta = stream.delta()
        if stream.over:
            self._let_go(stream)
        return delta

    def _count(self, stream: Stream, tokens: int, *, writes: bool) -> None:
        id_, urgent = stream.wanted.id, stream.wanted.urgent
        self._floor.compute(id_, tokens, urgent=urgent, writes=writes)

    def _fail(self, stream: Stream, error: ForebayError) -> Delta:
        self._let_go(stream, forget=True)
        return Delta(stream.wanted.id, error=error)

    # Several tokens of one

    def _check(self, stream: Stream, draft: Draft, speculating: Speculating) -> list[Delta]:
        """Let a text grow by its next token, and by one more for each drafted one that is right."""
        tokens = np.array([stream.token, *draft.tokens], np.int64)
        try:
            logits = speculating.session.check(stream.slot, tokens, filled=stream.computed)
        except BackendFailed as error:
            return [self._fail(stream, error)]
        deltas: list[Delta] = []
        right = 0
        for row in range(len(tokens)):
            stream.computed += 1
            self._count(stream, 1, writes=True)
            deltas += self._grow([stream], logits[row : row + 1], [0])
            if stream.slot < 0 or row == len(draft.tokens) or stream.token != draft.tokens[row]:
                break
            right += 1
        speculating.checked(stream, draft, right)
        return deltas

    # Parts of prompts

    def _prefill(self) -> list[Delta]:
        budget = self._session.chunk
        deltas: list[Delta] = []
        while (stream := self._next_prompt()) is not None:
            self._share(stream)
            count = _portion(stream.left, budget)
            if not count:
                break
            budget -= count
            delta = self._compute(stream, count)
            if delta is not None:
                deltas.append(delta)
        return deltas

    def _next_prompt(self) -> Stream | None:
        """Urgent ones first, with those that keep their slots; among them it goes round."""
        waiting = [stream for stream in self._running.values() if stream.left]
        return min(
            waiting, key=lambda stream: (not self._goes_first(stream), stream.turn), default=None
        )

    def _goes_first(self, stream: Stream) -> bool:
        return stream.wanted.urgent or self._floor.keeps(stream.wanted.id)

    def _share(self, stream: Stream) -> None:
        """Copy what another slot has of this prompt and its own has not."""
        source, common = self._slots.source(stream.prompt)
        if common < stream.computed + COPIED_FROM:
            return
        self._pool.copy(source, stream.slot, start=stream.computed, end=common)
        self._slots.hold(stream.slot, stream.prompt[stream.computed : common])
        stream.cached += common - stream.computed
        stream.computed = common

    def _compute(self, stream: Stream, count: int) -> Delta | None:
        part = stream.prompt[stream.computed : stream.computed + count]
        self._turn += 1
        stream.turn = self._turn
        try:
            logits = self._session.prefill(stream.slot, part, filled=stream.computed)
        except BackendFailed as error:
            return self._fail(stream, error)
        stream.computed += count
        self._count(stream, count, writes=False)
        self._slots.hold(stream.slot, part)
        if stream.left:
            return None
        return next(iter(self._grow([stream], logits[None], [0])), None)


def _portion(left: int, budget: int) -> int:
    """How many tokens of a prompt to compute now: never one alone, unless that is all of it."""
    if left <= budget:
        return left
    count = budget - 1 if left - budget < LEFT else budget
    return count if count >= LEFT else 0
