"""`forebay models drift`: whether what a model is asked and answers is still what it was."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from forebay.assess.drift import LEAST_ROWS, StatisticDrift, Verdict, compare, worst
from forebay.cli.asking import ask
from forebay.cli.show import print_table
from forebay.contract.errors import ArtifactError, ForebayError, InvalidInput, NotFound
from forebay.contract.model import ModelSpec
from forebay.contract.sketch import Reference, Sketch
from forebay.lanes import sketches
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.descriptions import Descriptions
from forebay.storage.references import References

_SINCE = re.compile(r"(?P<days>\d{1,4})d|(?P<date>\d{4}-\d\d-\d\d)")


class Told(msgspec.Struct, frozen=True):
    """What is printed.

    Attributes:
        model: its name.
        version: that is served here.
        since: the first day that counts, in UTC.
        reference: what the reference was taken from.
        verdict: the worst of all statistics.
        statistics: each of them.
    """

    model: str
    version: str
    since: str
    reference: str
    verdict: Verdict
    statistics: list[StatisticDrift]


def run(settings: Settings, spec: ModelSpec, *, since: str, set_reference: bool, raw: bool) -> None:
    """Compare what was served with the reference; or make it the reference.

    Raises:
        NotFound: there is no reference.
        ForebayError: too little was served to be a reference.
        Unavailable: Redis can't be asked.
    """
    if not spec.is_watched:
        raise InvalidInput(
            f"{spec.name!r} is not watched: say `watch = true` in [models.{spec.name}.drift]."
        )
    store = ArtifactStore(settings.home)
    version, references = _version(spec, store), References(store)
    today = datetime.now(UTC).date()
    first = _first_day(since, today)
    now = _served(settings, spec, version, first, today)
    if set_reference:
        path = _set(references, spec, version, now, f"traffic, {first} to {today}")
        print(
            f"{spec.name} {version}: {now.inputs:,} rows since {first} are the reference, in {path}"
        )
        return
    reference = references.find(spec.name, version=version)
    if reference is None:
        build = f"`forebay models build {spec.name}` leaves one, and " if spec.is_built else ""
        raise NotFound(
            f"There is no reference for {spec.name} {version}: {build}`forebay models drift "
            f"{spec.name} --set-reference` takes what was served since {first}."
        )
    found = compare(reference.sketch, now)
    told = Told(spec.name, version, first.isoformat(), reference.taken_from, worst(found), found)
    if raw:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        _print(told, now)


def _version(spec: ModelSpec, store: ArtifactStore) -> str:
    """The version that serves.

    Raises:
        ArtifactError: the model isn't built, or no worker has run its class yet.
    """
    if spec.is_built:
        return store.open(spec.name).manifest.version
    described = Descriptions(store.home).read(spec.name, source=spec.source)
    if described is None:
        raise ArtifactError(
            f"No worker here has served {spec.name!r} as it is now: there is nothing to compare."
        )
    return described.version


def _first_day(since: str, today: date) -> date:
    match = _SINCE.fullmatch(since)
    try:
        if match and match["days"]:
            return today - timedelta(days=int(match["days"]))
        if match and date.fromisoformat(match["date"]) <= today:
            return date.fromisoformat(match["date"])
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(
        f"--since takes days, as 7d, or a day that is past, as {today}, and not {since[:40]!r}."
    )


def _served(settings: Settings, spec: ModelSpec, version: str, first: date, today: date) -> Sketch:
    async def read(redis: Commands, keys: Keys) -> Sketch:
        # The server's clock may be a day ahead of this machine's.
        days = [first + timedelta(days=n) for n in range((today - first).days + 2)]
        return await sketches.read(redis, keys.of(spec.name), version=version, days=days)

    return ask(settings, read)


def _set(
    references: References, spec: ModelSpec, version: str, now: Sketch, taken_from: str
) -> Path:
    if min(now.inputs, now.outputs) < LEAST_ROWS:
        raise ForebayError(
            f"Workers have looked at {now.inputs:,} rows, and a reference needs {LEAST_ROWS}: wait "
            f"for more, or raise `sample` in [models.{spec.name}.drift]."
        )
    try:
        return references.set(Reference(spec.name, version, taken_from, now))
    except OSError as error:
        raise ForebayError(f"The reference can't be written: {error}.") from error


def _print(told: Told, now: Sketch) -> None:
    print(
        f"{told.model} {told.version} since {told.since}: {told.verdict}, against {told.reference}"
    )
    print_table(
        ("statistic", "verdict", "PSI", "by chance", "JSD", "rows then", "now", "moved most"),
        [
            (one.statistic, one.verdict, f"{one.psi:.3f}", f"{one.chance:.3f}", f"{one.jsd:.3f}",
             f"{one.rows_then:,}", f"{one.rows_now:,}", _moves(one))
            for one in told.statistics
        ],
    )  # fmt: skip
    if told.verdict is Verdict.TOO_FEW:
        print(
            f"Too little to tell: workers have looked at {now.inputs:,} rows, and it takes "
            f"{LEAST_ROWS} on both sides."
        )


def _moves(one: StatisticDrift) -> str:
    if one.verdict in (Verdict.STABLE, Verdict.TOO_FEW):
        return ""
    return ", ".join(f"{move.bin}: {move.then:.0%} to {move.now:.0%}" for move in one.moves)
