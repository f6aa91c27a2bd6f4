"""The interleaved run: in each round each load goes to each contender, one after the other.

A B A B …, never A A B B: clocks, caches and neighbours drift over minutes, and what is compared
must have had the same minutes. Only the one being measured works; the others idle, and peers are
stopped altogether (SIGSTOP): some of them are busy even while nobody asks them anything. Starting
each for its turn would take minutes a round, and count none of them warm.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.bench import redis_server, usage
from tests.bench.loads import LEAD_S, Contender, Kind, Load, Texts, Workload
from tests.bench.processes import Process
from tests.bench.stats import Sample
from tests.bench.texts import fixed_texts, make_texts, zipf_texts


def _one_text(count: int, *, seed: str) -> list[str]:
    return make_texts(1, seed=seed)


MAKE = {
    Kind.MIXED: make_texts,
    Kind.FIXED: fixed_texts,
    Kind.ZIPF: zipf_texts,
    Kind.HITS: _one_text,
}
WAKING_S = 2.0
ROWS_PER_SECOND = 2_000
"""More than any system here embeds on a desktop, so that a round need not repeat a text."""


class Step(msgspec.Struct, frozen=True):
    """One contender under one load in one round."""

    round: int
    load: Load
    contender: Contender


class Pace(msgspec.Struct, frozen=True):
    """How long a run takes: so many rounds, so many seconds for each measurement."""

    rounds: int
    seconds: int

    def estimate_s(self, steps: Sequence[Step]) -> float:
        """Seconds the steps take, lead-in and wrk's own start included."""
        return len(steps) * (self.seconds + LEAD_S + 0.2)


def plan(contenders: Sequence[Contender], loads: Sequence[Load], *, rounds: int) -> list[Step]:
    """All steps of a run, in order."""
    return [
        Step(round_, load, contender)
        for round_ in range(rounds)
        for load in loads
        for contender in contenders
        if contender.takes(load)
    ]


def run(
    steps: Sequence[Step],
    *,
    seconds: int,
    folder: Path,
    redis_url: Callable[[Contender], str | None],
    begin: Callable[[Step], None],
    programs: Mapping[str, Sequence[Process]],
    pausing: Collection[str] = (),
) -> Iterator[Sample]:
    """Take the steps; yields a sample for each.

    Args:
        seconds: length of one measurement.
        folder: for the files of request bodies.
        redis_url: the Redis that works for a contender, where its commands are to be counted.
        begin: told of each step before it is taken.
        programs: by contender, whose CPU time is told.
        pausing: contenders whose programs do nothing but in their turn. They are paused before.

    Raises:
        LoadFailedError: wrk could not run.
        StartError: a bare loop has ended.
        OSError: a contender does not answer any more after a load.
    """
    made: dict[str, Texts] = {}
    for name in pausing:
        for program in programs[name]:
            program.pause()

    def texts_of(load: Load, round_: int) -> Texts:
        # The null workload sends the same body each time; one text is enough to say so.
        is_null = load.workload is Workload.NULL
        if load.workload is Workload.SMOLLM2:
            return Texts(load.name, (), folder)  # it asks the same questions each time
        count = 1 if is_null else ROWS_PER_SECOND * (LEAD_S + seconds)
        label = "null" if is_null else f"{load.name}-{round_}"
        if label not in made:
            made[label] = Texts(label, tuple(MAKE[load.kind](count, seed=label)), folder)
        return made[label]

    for step in steps:
        begin(step)
        contender, load = step.contender, step.load
        url = redis_url(contender)
        running = programs.get(contender.name, ())
        if contender.name in pausing:
            _wake(contender, running, load)
        used = usage.cpu_s(program.pid for program in running)
        before = redis_server.calls(url) if url else {}
        measured = contender.measure(load, texts_of(load, step.round), seconds)
        settling = contender.settle(load)
        after = redis_server.calls(url) if url else {}
        measured = msgspec.structs.replace(measured, sent=measured.sent + settling)
        calls = redis_server.called_between(before, after)
        cpu_s = usage.used_between(used, usage.cpu_s(program.pid for program in running))
        if contender.name in pausing:
            for program in running:
                program.pause()
        yield Sample(contender.name, load.name, step.round, measured, calls, cpu_s)


def _wake(contender: Contender, programs: Sequence[Process], load: Load) -> None:
    """Let a contender go on, and answer something: connections may have lapsed meanwhile.

    Raises:
        OSError: it does not answer.
    """
    for program in reversed(programs):
        program.resume()
    try:
        contender.settle(load)
    except OSError:  # what was broken off is noticed by using it
        time.sleep(WAKING_S)
        contender.settle(load)
