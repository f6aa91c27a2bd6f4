"""A tuning from its builds to its last figure, within the time there is."""

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from forebay.contract.errors import BuildFailed
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Row
from forebay.tune import halving, rates, space, traffic
from forebay.tune.arms import Arm
from forebay.tune.builds import Build, Builds, build_label
from forebay.tune.goals import Goals
from forebay.tune.looks import Budget, Looks, turned
from forebay.tune.outcome import LeftOut
from forebay.tune.rates import Climb
from forebay.tune.space import Lengths
from forebay.tune.trials import Trials, available_bytes

MOST_ARMS = 32

BUILD_SHARE = 0.5
"""Of the time; no build is begun that would end later."""

HALVING_SHARE = 0.4
"""Of what is left after the builds."""


class Told(msgspec.Struct, frozen=True):
    """How far a tuning is.

    Attributes:
        stage: `build`, `try` or `measure`.
        what: is under way.
        share: of all the time that has passed, 0..1.
        best: the best so far, in a few words; empty at first.
    """

    stage: str
    what: str
    share: float
    best: str = ""


class Search:
    """Builds, tries and measures.

    Args:
        spec: as the catalog has it.
        goals: what is asked.
        rows: the traffic.
        folder: for what is to be kept: builds.
        seconds: for all of it.
        tell: is told how far it is.
        cores: of this machine.

    Attributes:
        arms: the candidates, the current settings first if they can be served.
        left_out: builds without any, and why.
        lengths: of the traffic, once known.
        interrupted: Ctrl-C came before it was done.
        is_late: time ran out before it was done.
    """

    def __init__(
        self,
        spec: ModelSpec,
        goals: Goals,
        rows: Sequence[Row],
        *,
        folder: Path,
        seconds: float,
        tell: Callable[[Told], None],
        cores: int,
    ) -> None:
        self._spec = spec
        self._goals = goals
        self._rows = rows
        self._folder = folder
        self._tell = tell
        self._cores = cores
        self._began = time.monotonic()
        self._seconds = seconds
        self._budget = Budget(seconds)
        self._builds = Builds(folder / "builds")
        self._climbs: dict[int, Climb] = {}
        self.arms: list[Arm] = []
        self.left_out: list[LeftOut] = []
        self.lengths: Lengths | None = None
        self.interrupted = False
        self.is_late = False

    def run(self) -> None:
        """Do it all; after Ctrl-C, or once time is up, what was done until then is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = self._folder / f".traffic-{os.getpid()}"
        traffic.write(rows, self._rows)
        trials = Trials(traffic=rows, most_bytes=available_bytes() // 2)
        try:
            if made := self._make_builds():
                looks = Looks(trials)
                self._measure(self._try_all(made, looks), looks)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            trials.close()
            rows.unlink(missing_ok=True)

    @property
    def elapsed_s(self) -> float:
        """Since it began, the first build included."""
        return time.monotonic() - self._began

    def best_fraction(self, arm: Arm) -> float | None:
        """The highest share of its rate at which a finalist meets the latency goals."""
        climb = self._climbs.get(arm.number)
        return None if climb is None else climb.best

    def _make_builds(self) -> list[Build]:
        """Every build that there is or that there is time for, and that is accurate enough."""
        made: list[Build] = []
        spent_s = longest_s = 0.0
        for index, spec in enumerate(space.builds(self._spec)):
            name = build_label(spec)
            try:
                build = self._builds.find(spec)
                if build is None and index and spent_s + longest_s > BUILD_SHARE * self._seconds:
                    why = "There was no time to build it: run this again, or with more --minutes."
                    self.left_out.append(LeftOut(name, why))
                    continue
                if build is None:
                    began = time.monotonic()
                    build = self._builds.make(spec, functools.partial(self._say_step, name))
                    # Nothing can be measured without the first one, so it doesn't count.
                    spent_s += time.monotonic() - began if index else 0.0
                longest_s = max(longest_s, build.seconds)
            except BuildFailed as error:
                self.left_out.append(LeftOut(name, error.message))
            else:
                made.append(build)
        self._budget = Budget(max(self._seconds - spent_s, (1 - BUILD_SHARE) * self._seconds))
        return [build for build in made if self._is_accurate(build)]

    def _is_accurate(self, build: Build) -> bool:
        least = self._goals.min_accuracy
        if least is None or build.accuracy is None or build.accuracy >= least:
            return True
        why = f"Its accuracy is {build.accuracy:.5f}, and {least:g} are asked."
        self.left_out.append(LeftOut(build_label(build.spec), why, build.accuracy))
        return False

    def _try_all(self, made: Sequence[Build], looks: Looks) -> list[Arm]:
        """Short looks at many; the finalists."""
        first = Arm(0, made[0].spec, made[0])
        self.arms = [first]
        self._say("try", f"{build_label(first.spec)}: load")
        looks.start(first)
        if first.ready is None:
            return []
        self.lengths = Lengths(first.ready.shortest, first.ready.longest)
        specs = space.arms(
            [build.spec for build in made],
            cores=self._cores,
            lengths=self.lengths,
            count=MOST_ARMS,
        )
        for_halving_s = HALVING_SHARE * self._budget.left_s
        finalists = rates.finalists(
            self._budget.left_s - for_halving_s, steps=rates.steps(self._goals)
        )
        rungs = halving.plan(
            arms=len(specs),
            finalists=finalists,
            seconds=for_halving_s,
            overhead_s=first.ready.start_ms / 1_000,
        )
        count = rungs[0].arms if rungs else finalists
        by_label = {build_label(build.spec): build for build in made}
        self.arms += [
            Arm(number, spec, by_label[build_label(spec)])
            for number, spec in enumerate(specs[1:count], 1)
        ]
        return self._halve(rungs, finalists, looks, until=self._budget.elapsed_s + for_halving_s)

    def _halve(
        self, rungs: Sequence[halving.Rung], finalists: int, looks: Looks, *, until: float
    ) -> list[Arm]:
        arms = self.arms
        for number, rung in enumerate(rungs, 1):
            for place, arm in enumerate(arms, 1):
                if self._budget.elapsed_s > until:
                    return self._promoted(arms, finalists)
                self._say("try", f"round {number} of {len(rungs)}, {place} of {len(arms)}")
                looks.first(arm, rung.seconds, with_latency=bool(self._goals.latency))
            arms = self._promoted(arms, rungs[number].arms if number < len(rungs) else finalists)
        return arms

    def _promoted(self, arms: Sequence[Arm], keep: int) -> list[Arm]:
        """The better ones, and the current settings to hold them against."""
        most = self._goals.max_memory_mb
        alive = [arm for arm in arms if arm.is_measured]
        light = [arm for arm in alive if most is None or arm.peak_bytes / 1e6 <= most] or alive
        scores = [arm.score(self._goals) for arm in light]
        points = [(arm.accuracy, score) for arm, score in zip(light, scores, strict=True)]
        chosen = [light[index] for index in halving.promote(points, scores, keep=keep)]
        current = self.arms[0]
        return chosen if current in chosen or current.failed else [current, *chosen]

    def _measure(self, arms: Sequence[Arm], looks: Looks) -> None:
        """The finalists in full, in rounds, so that what disturbs one disturbs all."""
        seconds = rates.look_s(self._budget.left_s, arms=len(arms), steps=rates.steps(self._goals))
        for arm in arms:
            arm.forget()
        for round_ in range(rates.ROUNDS):
            self._say("measure", f"rows a second, round {round_ + 1} of {rates.ROUNDS}")
            for arm in turned(arms, round_):
                looks.saturate(arm, seconds, seed=round_)
        if self._goals.latency:
            self._climb(arms, looks, seconds)
            return
        for arm in arms:
            arm.is_final = not arm.failed
        for fraction in rates.WITHOUT_GOALS:
            if not self._is_late():
                self._arrive([(arm, fraction) for arm in arms], looks, seconds)

    def _climb(self, arms: Sequence[Arm], looks: Looks, seconds: float) -> None:
        """Find out up to which rate each meets the latency goals."""
        self._climbs = {arm.number: Climb() for arm in arms}
        while steps := [
            (arm, fraction)
            for arm in arms
            if not arm.failed and (fraction := self._climbs[arm.number].next) is not None
        ]:
            if any(arm.fractions for arm in arms) and self._is_late():
                return
            self._arrive(steps, looks, seconds)
            for arm, fraction in steps:
                if not arm.failed:
                    met = arm.meets(fraction, self._goals)
                    self._climbs[arm.number].told(fraction, met=met)
                    arm.is_final = True

    def _arrive(self, steps: Sequence[tuple[Arm, float]], looks: Looks, seconds: float) -> None:
        for round_ in range(rates.ROUNDS):
            for arm, fraction in turned(steps, round_):
                percent = f"{100 * fraction:.0f} % of what it can do"
                self._say("measure", f"latency at {percent}, round {round_ + 1} of {rates.ROUNDS}")
                looks.arrive(arm, fraction, seconds, seed=round_)

    def _is_late(self) -> bool:
        """Whether what is known has to do."""
        self.is_late = self.is_late or self._budget.is_over
        return self.is_late

    def _say_step(self, name: str, step: str) -> None:
        self._say("build", f"{name}: {step}")

    def _say(self, stage: str, what: str) -> None:
        known = [arm for arm in self.arms if arm.is_measured]
        best = max(known, key=lambda arm: arm.score(self._goals), default=None)
        share = min(1.0, self._budget.elapsed_s / self._budget.seconds)
        self._tell(Told(stage, what, share, "" if best is None else self._short(best)))

    def _short(self, arm: Arm) -> str:
        batch = arm.spec.batch
        return (
            f"{arm.score(self._goals):.0f} rows/s ({build_label(arm.spec)}, threads "
            f"{arm.spec.threads}, {batch.max_rows} rows, {batch.max_tokens} tokens)"
        )
