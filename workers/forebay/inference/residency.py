"""Which models a worker holds in memory. Pure: it is told what there is, and the time.

A model that is absent wants to be loaded when its lanes have rows. Of those that want to, the one
that has waited longest comes first, and the others may only take room that it will not need. Room
is made by unloading, in this order:

1. models that hold nothing, the least recently used first;
2. models that never rest, once their slice is over, the one that has been here longest first.

A model's slice is `KEEP` times what loading it took, so that no more than about 1/`KEEP` of the
time goes into loading, however many models share too little memory. Nothing is unloaded before
that. A busy model with more rows before it than the one that waits keeps on for as many times
longer, up to `LONGEST`. So with n models that all have rows, one that waits is here after at most
(n - 1) of the longest slices and the loads between them.
"""

from collections.abc import Iterable, Sequence

import msgspec

from forebay.contract.workers import ModelState

KEEP = 10.0
"""A model stays for at least so many times as long as its load took."""

LEAST_SLICE_S = 1.0
MOST_SLICE_S = 30.0
"""Bounds of that, seconds."""

LONGEST = 4.0
"""How many slices a busy model may stay that has more rows than the one that waits."""


class Resident(msgspec.Struct, frozen=True):
    """One model of the worker's set. Times are seconds on one clock, whichever.

    Attributes:
        bytes: what it takes with its work, measured or thought.
        least: what its load alone takes, if that is less.
        load_s: how long its load took, or is thought to take.
        since: when it got into its state.
        used: when it was last seen to hold rows, or became ready.
        busy: whether it holds rows now.
        rows: rows on its lanes, whoever has them; not looked at while all are here.
        waiting: since when an absent model has had rows, or was ordered; None: it has none.
        served: whether another worker has it.
        ordered: whether an operator wants it here.
        barred: until when it is not to be loaded, for it failed or is held away.
    """

    name: str
    state: ModelState
    bytes: int = 0
    least: int = 0
    load_s: float = 0.0
    since: float = 0.0
    used: float = 0.0
    busy: bool = False
    rows: int = 0
    waiting: float | None = None
    served: bool = False
    ordered: bool = False
    barred: float = 0.0

    @property
    def slice_s(self) -> float:
        """How long it stays at least."""
        return min(max(KEEP * self.load_s, LEAST_SLICE_S), MOST_SLICE_S)


class Memory(msgspec.Struct, frozen=True):
    """What the process may take, and takes.

    Attributes:
        budget: bytes of the whole process; 0: no bound.
        floor: what it takes without any model.
        rss: what it takes now.
    """

    budget: int = 0
    floor: int = 0
    rss: int = 0


class Load(msgspec.Struct, frozen=True):
    """Load a model."""

    name: str


class Unload(msgspec.Struct, frozen=True):
    """Drain a model, and give its memory back; `why` is for people."""

    name: str
    why: str


class Refuse(msgspec.Struct, frozen=True):
    """A model doesn't fit, and would not if it were alone."""

    name: str
    needs: int


Step = Load | Unload | Refuse


def decide(
    models: Sequence[Resident], memory: Memory, *, now: float, idle_s: float = 0.0
) -> list[Step]:
    """What to do next; to be asked again whenever something has changed, or time has passed.

    Args:
        models: the worker's set.
        memory: of the process.
        now: on the clock of the models' times.
        idle_s: a model that has held nothing for so long is unloaded; 0: never.

    Returns:
        Steps that may all be begun at once. One load at most, and none while another goes on.
    """
    models = [_within(model, memory) for model in models]
    ready = [model for model in models if model.state is ModelState.READY]
    steps: list[Step] = []
    wanted = sorted(
        (one for one in models if one.waiting is not None and _may_load(one, now)),
        key=lambda one: (not one.ordered, one.served, one.waiting, one.name),
    )
    for model in list(wanted):
        if too_big(model, memory):
            steps.append(Refuse(model.name, memory.floor + model.bytes))
            wanted.remove(model)
    leaving = [model for model in models if model.state is ModelState.UNLOADING]
    loads = any(model.state is ModelState.LOADING for model in models)
    if wanted and not loads and not leaving:
        steps += _make_room(wanted, ready, memory, now)
    gone = {step.name for step in steps if isinstance(step, Unload)}
    if idle_s:
        steps += (
            Unload(model.name, "idle")
            for model in ready
            if model.name not in gone and _rests(model, now) and now - model.used >= idle_s
        )
    if not steps and len(ready) > 1 and not fits(ready, memory, 0):
        # They have grown. The last one stays: without it the worker would be of no use.
        steps += (
            Unload(model.name, "too little memory")
            for model in _idle(ready, now)[:1]
            if not leaving
        )
    return steps


def fits(models: Iterable[Resident], memory: Memory, more: int) -> bool:
    """Whether a model of `more` bytes fits beside these, as far as is known.

    What the process takes beyond its models' own measures, by growth or fragments, counts, too.
    """
    held = sum(model.bytes for model in models)
    return not memory.budget or max(memory.floor + held, memory.rss) + more <= memory.budget


def too_big(model: Resident, memory: Memory) -> bool:
    """Whether a model would not fit if it were alone, as far as is known."""
    model = _within(model, memory)
    return bool(memory.budget) and memory.floor + model.bytes > memory.budget


def _make_room(
    wanted: Sequence[Resident], ready: Sequence[Resident], memory: Memory, now: float
) -> list[Step]:
    """Load the first of these, or make room for it, or load another that will not be in its way."""
    first, *others = wanted
    if not ready or fits(ready, memory, first.bytes):
        # Alone it fits; what the process takes beyond that, no unloading would give back.
        return [Load(first.name)]
    if first.served and not first.ordered:
        # Other workers have all of these: nothing is unloaded for their sake.
        others = [other for other in others if fits(ready, memory, other.bytes)]
        return [Load(others[0].name)] if others else []
    victims = [*_idle(ready, now, at_once=first.ordered), *_tired(ready, first, now)]
    chosen: list[Resident] = []
    for victim in victims:
        chosen.append(victim)
        left = [model for model in ready if model not in chosen]
        if _by_measure(left, memory, first.bytes):
            return [Unload(model.name, f"room for {first.name}") for model in chosen]
    # It has to wait. Whoever fits beside it and all that stay may come in meanwhile.
    for other in others:
        if fits(ready, memory, other.bytes) and _by_measure(
            [other, *_stay(ready, memory, first)], memory, first.bytes
        ):
            return [Load(other.name)]
    return []


def _by_measure(models: Iterable[Resident], memory: Memory, more: int) -> bool:
    held = sum(model.bytes for model in models)
    return memory.floor + held + more <= memory.budget


def _stay(ready: Sequence[Resident], memory: Memory, first: Resident) -> list[Resident]:
    """Those that need not go for the first one, if all others were free to."""
    left = sorted(ready, key=lambda model: model.since)
    while left and not _by_measure(left, memory, first.bytes):
        del left[0]
    return left


def _within(model: Resident, memory: Memory) -> Resident:
    """A model that can be loaded alone is: it may just not grow by all that it once did."""
    most = memory.budget - memory.floor
    if memory.budget and (model.least or model.bytes) <= most < model.bytes:
        return msgspec.structs.replace(model, bytes=most)
    return model


def _may_load(model: Resident, now: float) -> bool:
    return model.state is ModelState.ABSENT and (model.ordered or now >= model.barred)


def _rests(model: Resident, now: float) -> bool:
    return not model.busy and not model.rows and now - model.since >= model.slice_s


def _idle(ready: Iterable[Resident], now: float, *, at_once: bool = False) -> list[Resident]:
    """Those that hold nothing and have been here for long enough, least recently used first."""
    found = [
        one for one in ready if _rests(one, now) or (at_once and not one.busy and not one.rows)
    ]
    return sorted(found, key=lambda one: (one.used, one.name))


def _tired(ready: Iterable[Resident], waiter: Resident, now: float) -> list[Resident]:
    """Those with rows whose slice is over, the one that has been here longest first."""

    def is_over(model: Resident) -> bool:
        more = min(max(model.rows / max(waiter.rows, 1), 1.0), LONGEST)
        return now - model.since >= model.slice_s * more

    found = [one for one in ready if not _rests(one, now) and is_over(one)]
    return sorted(found, key=lambda one: (one.since, one.name))
