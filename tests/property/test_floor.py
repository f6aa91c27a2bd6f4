"""What bulk is due on an engine that realtime keeps busy: never less for long, and never more."""

import itertools
from collections import deque
from collections.abc import Iterator

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from forebay.inference.generation.floor import MOST, STRETCH, Floor

PART = 32
LONGEST_PROMPT, LONGEST_TEXT = 120, 60
SHARES = st.sampled_from([0.02, 0.05, 0.1, 0.25, 0.5])
SLOTS = st.integers(1, 8)
SIZES = st.lists(
    st.tuples(st.integers(1, LONGEST_PROMPT), st.integers(1, LONGEST_TEXT)), min_size=1, max_size=6
)
"""Lengths of prompts and of texts."""


class Text(msgspec.Struct, eq=False):
    """A text as the floor sees it."""

    id: int
    urgent: bool
    prompt: int
    left: int


class Engine:
    """Slots that urgent texts want all of, all the time; the others come in where they may."""

    def __init__(
        self, share: float, slots: int, urgent: Iterator[Text], others: Iterator[Text]
    ) -> None:
        self.floor = Floor(share)
        self.slots = slots
        self.urgent, self.others = urgent, others
        self.running: list[Text] = []
        self.waiting: deque[Text] = deque()
        self.tokens = {True: 0, False: 0}

    def step(self, *, flood: bool, wanted: bool) -> None:
        while wanted and len(self.waiting) < self.slots:
            self.waiting.append(next(self.others))
        free = [one for one in self.running if not one.urgent and not self.floor.keeps(one.id)]
        for one in free:
            if self.floor.due:
                self.floor.give(one.id)
            elif flood:
                self.running.remove(one)
                self.floor.leave(one.id)
                self.waiting.appendleft(one)
        while len(self.running) < self.slots:
            if self.waiting and (self.floor.due or not flood):
                one = self.waiting.popleft()
                if self.floor.due:
                    self.floor.give(one.id)
                self.running.append(one)
            elif flood:
                self.running.append(next(self.urgent))
            else:
                break
        budget = PART
        for one in sorted(self.running, key=lambda one: not self.floor.keeps(one.id)):
            if one.prompt:
                part = min(one.prompt, budget)
                one.prompt -= part
                budget -= part
                self._compute(one, part, writes=False)
            else:
                one.left -= 1
                self._compute(one, 1, writes=True)
        for one in [one for one in self.running if not one.left]:
            self.running.remove(one)
            self.floor.leave(one.id)
        there = self.waiting or any(not one.urgent for one in self.running)
        self.floor.end_step(wanting=bool(there))

    def _compute(self, one: Text, tokens: int, *, writes: bool) -> None:
        if tokens:
            self.tokens[one.urgent] += tokens
            self.floor.compute(one.id, tokens, urgent=one.urgent, writes=writes)


def texts(sizes: list[tuple[int, int]], ids: Iterator[int], *, urgent: bool) -> Iterator[Text]:
    for prompt, left in itertools.cycle(sizes):
        yield Text(next(ids), urgent, prompt, left)


def engine(
    share: float, slots: int, urgent: list[tuple[int, int]], others: list[tuple[int, int]]
) -> Engine:
    ids = itertools.count()
    return Engine(share, slots, texts(urgent, ids, urgent=True), texts(others, ids, urgent=False))


def _slack(slots: int) -> float:
    """What may be on the account, or owed: texts that were begun on credit, and its bound."""
    return MOST + slots * (LONGEST_PROMPT + LONGEST_TEXT + STRETCH)


@given(SHARES, SLOTS, SIZES, SIZES)
def test_bulk_has_its_share_of_a_flood_and_realtime_has_the_rest(
    share: float, slots: int, urgent: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    busy = engine(share, slots, urgent, others)
    slack = _slack(slots)
    for _ in range(1_500):
        busy.step(flood=True, wanted=True)
        due = share * sum(busy.tokens.values())
        assert busy.tokens[False] <= due + slack
        assert busy.tokens[False] >= due - slack


@given(SLOTS, SIZES, SIZES)
def test_without_a_share_bulk_waits_for_as_long_as_realtime_keeps_all_slots(
    slots: int, urgent: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    busy = engine(0, slots, urgent, others)
    for _ in range(200):
        busy.step(flood=True, wanted=True)
    assert busy.tokens[False] == 0


@given(SHARES, SLOTS, SIZES, SIZES)
def test_what_bulk_gets_while_nobody_else_wants_it_is_not_held_against_it(
    share: float, slots: int, urgent: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    busy = engine(share, slots, urgent, others)
    for _ in range(300):
        busy.step(flood=False, wanted=True)
    free = busy.tokens[False]
    assert free >= 300
    for _ in range(1_500):
        busy.step(flood=True, wanted=True)
    slack = _slack(slots)
    flooded = busy.tokens[False] - free
    assert flooded >= share * (flooded + busy.tokens[True]) - slack


@given(SHARES, SLOTS, SIZES)
def test_nothing_is_due_to_nobody(share: float, slots: int, urgent: list[tuple[int, int]]) -> None:
    busy = engine(share, slots, urgent, [(1, 1)])
    for _ in range(100):
        busy.step(flood=True, wanted=False)
        assert not busy.floor.due
