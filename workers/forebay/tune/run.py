"""A whole tuning: search, choose, keep what was found; and have what was chosen served."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from forebay.contract.errors import ForebayError
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Row
from forebay.runtime import processor
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.tunings import Tuning, Tunings
from forebay.tune import choice, plot, settings, space
from forebay.tune.arms import Arm
from forebay.tune.builds import build_label
from forebay.tune.figures import cost_per_million
from forebay.tune.goals import Goals
from forebay.tune.outcome import Outcome, Traffic, found, with_front
from forebay.tune.search import Search, Told

RESULT = "result.json"
PLOT = "tuning.svg"
SNIPPET = "settings.toml"


class Wanted(msgspec.Struct, frozen=True):
    """What is to be tuned for.

    Attributes:
        goals: to be met.
        rows: the traffic.
        origin: where the rows are from.
        seconds: for all of it.
        cost_per_hour: of this machine, in any currency; None if that doesn't matter.
    """

    goals: Goals
    rows: Sequence[Row]
    origin: str
    seconds: float
    cost_per_hour: float | None = None


class Done(msgspec.Struct, frozen=True):
    """A tuning that has ended.

    Attributes:
        outcome: what it found.
        folder: where that is kept.
        chosen: the candidate that was chosen, if one was.
        needs_build: it is of another build than the catalog's settings.
    """

    outcome: Outcome
    folder: Path
    chosen: Arm | None
    needs_build: bool = False


def tune(spec: ModelSpec, wanted: Wanted, *, home: str, tell: Callable[[Told], None]) -> Done:
    """Find the settings that serve a model best here, and keep what was found under `home`.

    Ctrl-C ends it early, with what is known by then.

    Args:
        spec: as the catalog has it.
        wanted: what for.
        home: the folder of artifacts.
        tell: is told how far it is.

    Raises:
        InvalidInput: there is nothing to tune.
        ForebayError: what was found can't be kept.
    """
    space.check(spec)
    folder = Tunings(home).folder(spec.name)
    search = Search(
        spec,
        wanted.goals,
        wanted.rows,
        folder=folder,
        seconds=wanted.seconds,
        tell=tell,
        cores=processor.cores(),
    )
    try:
        search.run()
        outcome = _outcome(spec, wanted, search)
        _keep(folder, outcome)
        chosen = None if outcome.chosen is None else search.arms[outcome.chosen]
        if chosen is not None:
            (folder / SNIPPET).write_text(settings.snippet(chosen.spec), "utf-8")
    except OSError as error:
        raise ForebayError(f"What was found can't be kept in {folder}: {error}.") from error
    needs_build = chosen is not None and build_label(chosen.spec) != build_label(spec)
    return Done(outcome, folder, chosen, needs_build)


def apply(done: Done, models_file: Path, *, home: str) -> None:
    """Have the chosen settings served from the next start of a worker on.

    The artifact becomes the current one, then the catalog is replaced; both have been checked by
    then, and a worker that runs keeps what it has loaded.

    Raises:
        ConfigurationError: the catalog can't be changed. Nothing is.
        ForebayError: the artifact can't be copied. Nothing is changed.
    """
    assert done.chosen is not None
    spec = done.chosen.spec
    edit = settings.Edit(models_file, spec)
    if spec.is_built:
        kept = ArtifactStore(done.chosen.home)
        artifact = kept.open(spec.name)
        try:
            ArtifactStore(home).publish(
                artifact.folder, artifact.manifest, report=kept.report(spec.name)
            )
        except OSError as error:
            raise ForebayError(f"The artifact can't be copied to {home}: {error}.") from error
    edit.write()


def note(done: Done, *, home: str) -> None:
    """Leave word of the choice for whoever lists models.

    Raises:
        ForebayError: it can't be written.
    """
    assert done.chosen is not None
    outcome = done.outcome
    tuning = Tuning(
        model=outcome.model,
        machine=outcome.machine,
        at=outcome.at,
        settings={".".join(f): v for f, v in settings.chosen(done.chosen.spec).items()},
        goals=str(outcome.goals),
        why=outcome.why,
    )
    try:
        Tunings(home).write(tuning)
    except OSError as error:
        raise ForebayError(f"The choice can't be noted in {done.folder}: {error}.") from error


def _outcome(spec: ModelSpec, wanted: Wanted, search: Search) -> Outcome:
    goals = wanted.goals
    all_found = with_front(
        [
            found(arm, goals, best=search.best_fraction(arm), is_current=arm.spec == spec)
            for arm in search.arms
        ],
        goals,
    )
    chosen = choice.choose(all_found, goals)
    if chosen is None:
        why = choice.nearest(all_found, search.left_out, goals)
    else:
        why = choice.why(all_found, chosen, goals)
    cost, rate = wanted.cost_per_hour, None if chosen is None else all_found[chosen].rows_s
    return Outcome(
        model=spec.name,
        machine=processor.describe(),
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        goals=goals,
        traffic=None
        if search.lengths is None
        else Traffic(
            len(wanted.rows), wanted.origin, search.lengths.shortest, search.lengths.longest
        ),
        seconds=round(search.elapsed_s, 1),
        found=tuple(all_found),
        left_out=tuple(search.left_out),
        chosen=chosen,
        why=why,
        interrupted=search.interrupted,
        is_late=search.is_late,
        cost_per_hour=cost,
        cost_per_million=cost_per_million(cost, rate) if cost is not None and rate else None,
    )


def _keep(folder: Path, outcome: Outcome) -> None:
    told = msgspec.json.format(msgspec.json.encode(outcome), indent=2)
    (folder / RESULT).write_bytes(told + b"\n")
    (folder / PLOT).write_text(plot.draw(outcome), "utf-8")
