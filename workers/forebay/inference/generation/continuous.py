"""The generation loop: continuous batching on a fixed set of slots.

    submit ─▶ queue ─▶ slot: prompt, part by part ─▶ a token a step ─▶ over: the slot is free
                         ▲                                │
                         └── parked, where somebody who waits needs the slot

A step makes one token for each text that has its prompt behind it, in one run, and then computes
parts of prompts, no more of them than running texts can bear to wait for. What a text comes to
does not depend on the others: kernels give each row of a step the same bits whoever is beside it,
and each part of a prompt the same wherever it was cut (decision 0038).
"""

from collections.abc import Collection, Sequence

import numpy as np

from forebay.contract.errors import BackendFailed, ForebayError
from forebay.inference.generation.protocol import Delta, Wanted
from forebay.inference.generation.sampling import Chosen, choose
from forebay.inference.generation.session import DecoderSession, Logits
from forebay.inference.generation.slots import LEFT, Slots
from forebay.inference.generation.stream import Stream
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.generation.waiting import Waiting

COPIED_FROM = 16
"""Tokens in common from which on copying another slot's beats computing them."""

MOVED_AFTER = 8
"""Steps for which a row may run empty between others before one of them is moved there. A move
costs about as much as so many rows."""


class ContinuousEngine:
    """Generates texts side by side; see `protocol.Engine`.

    Args:
        session: runs the graph; computes at least three tokens of a prompt at once.
        vocabulary: what tokens stand for.
        end_ids: tokens that end a text.
    """

    def __init__(
        self, session: DecoderSession, vocabulary: Vocabulary, end_ids: Collection[int]
    ) -> None:
        if session.chunk <= LEFT:
            raise ValueError(f"parts of prompts are more than {LEFT} tokens, not {session.chunk}")
        self._session = session
        self._pool = session.pool
        self._vocabulary = vocabulary
        self._end_ids = frozenset(end_ids)
        self._slots = Slots(self._pool.slots, self._pool.capacity)
        self._waiting = Waiting()
        # By id, in the order in which they got their slots.
        self._running: dict[int, Stream] = {}
        self._over: list[Stream] = []
        self._empty_steps = np.zeros(self._pool.slots, np.int64)

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
        elif not self._waiting.drop(id_):
            self._over = [stream for stream in self._over if stream.wanted.id != id_]

    def step(self) -> Sequence[Delta]:
        """Let each text grow by a token, and take in parts of prompts."""
        self._admit()
        deltas = self._decode()
        deltas += self._prefill()
        deltas += [delta for stream in self._over if (delta := stream.delta())]
        self._over.clear()
        return deltas

    # Who has a slot

    def _admit(self) -> None:
        while self._waiting:
            if not self._slots.free and not (self._waiting.urgent and self._interrupt()):
                return
            stream = self._waiting.next()
            stream.slot = self._slots.take(stream.prompt)
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
        for stream in reversed(self._running.values()):
            if not stream.wanted.urgent:
                break
        else:
            return False
        if not stream.left:
            stream.parked = self._pool.take(stream.slot, stream.computed)
        self._let_go(stream)
        self._waiting.interrupted(stream)
        return True

    def _let_go(self, stream: Stream, *, forget: bool = False) -> None:
        del self._running[stream.wanted.id]
        self._slots.leave(stream.slot, forget=forget)
        stream.slot = -1

    # One token for each

    def _writing(self) -> list[Stream]:
        """Those with their prompts behind them, in the order of their slots."""
        streams = [stream for stream in self._running.values() if not stream.left]
        return sorted(streams, key=lambda stream: stream.slot)

    def _decode(self) -> list[Delta]:
        streams = self._writing()
        if not streams:
            return []
        taken = [stream.slot for stream in streams]
        first, end = taken[0], taken[-1] + 1
        empty = sorted(set(range(first, end)).difference(taken))
        tokens = np.zeros(end - first, np.int64)
        computed = np.zeros(end - first, np.int64)
        rows = np.array(taken) - first
        tokens[rows] = [stream.token for stream in streams]
        computed[rows] = [stream.computed for stream in streams]
        # A row between others runs as well, on nothing; what it writes is put right again.
        kept = [(slot, self._pool.take(slot, 1)) for slot in empty]
        try:
            logits = self._session.decode(first, tokens, computed)
        except BackendFailed as error:
            return [self._fail(stream, error) for stream in streams]
        finally:
            for slot, cache in kept:
                self._pool.put(slot, cache)
        for stream in streams:
            stream.computed += 1
        deltas = self._grow(streams, logits, rows.tolist())
        self._close_up(empty)
        return deltas

    def _close_up(self, empty: Sequence[int]) -> None:
        """Move a text from an end of the rows to a slot that ran empty for long."""
        self._empty_steps[[slot for slot in range(self.slots) if slot not in empty]] = 0
        for slot in empty:
            self._empty_steps[slot] += 1
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

    def _fail(self, stream: Stream, error: ForebayError) -> Delta:
        self._let_go(stream, forget=True)
        return Delta(stream.wanted.id, error=error)

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
        """Urgent ones first; among those whoever had fewest turns, so that short ones pass."""
        waiting = [stream for stream in self._running.values() if stream.left]
        return min(
            waiting, key=lambda stream: (not stream.wanted.urgent, stream.turns), default=None
        )

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
        stream.turns += 1
        try:
            logits = self._session.prefill(stream.slot, part, filled=stream.computed)
        except BackendFailed as error:
            return self._fail(stream, error)
        stream.computed += count
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
