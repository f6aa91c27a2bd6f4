"""`forebay models traffic`, `promote` and `rollback`: which versions get a model's requests."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from forebay.cli.asking import ask
from forebay.cli.shares import filled, no_version, read_shares
from forebay.cli.show import print_table
from forebay.contract.errors import ArtifactError, InvalidInput, Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.versions import WHOLE
from forebay.lanes.depth import counters, depth
from forebay.lanes.keys import Keys
from forebay.lanes.traffic import Change, Traffic, Why, effective
from forebay.runtime import catalog as catalogs
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, now_ms
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore

T = TypeVar("T")


class Standing(msgspec.Struct, frozen=True):
    """How a version stands.

    Attributes:
        version: its name.
        served: what its lanes are called.
        share: of the model's requests, per cent.
        built: its artifact in this home, or why there is none.
        workers: ready ones.
        waiting: rows on its lanes, leased ones included.
        succeeded: predictions that ever did.
        failed: likewise.
        shadow: whether it gets copies of what others answer.
    """

    version: str
    served: str
    share: float
    built: str
    workers: int
    waiting: int
    succeeded: int
    failed: int
    shadow: bool


class Verb:
    """One verb about one model's versions.

    Args:
        settings: where Redis and the home are.
        name: of the model.

    Raises:
        NotFound: there is no such model.
        InvalidInput: what is named is a version.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._catalog: Catalog = catalogs.read(Path(settings.models_file))
        self._spec = self._catalog.find(name)
        if name not in self._catalog.models:
            raise InvalidInput(f"{name!r} is a version: name its model, {self._spec.name!r}.")
        self._keys = Keys(settings.key_prefix)
        self._lanes = self._keys.of(self._spec.name)
        self._store = ArtifactStore(settings.home)

    def show(self) -> None:
        """Print the versions and their shares."""

        async def ask(redis: Commands) -> tuple[Change, list[Standing]]:
            change = await Traffic(redis).current(self._lanes)
            return change, await self._standings(redis, change)

        self._print(*self._run(ask))

    def show_history(self) -> None:
        """Print the changes of the shares, newest first."""
        changes = self._run(lambda redis: Traffic(redis).history(self._lanes))
        print_table(
            ("when", "what", "shares"),
            [(_when(one), one.why or "", _listed(one.shares)) for one in changes],
        )

    def set(self, wanted: Sequence[str], *, force: bool) -> None:
        """Set shares.

        Args:
            wanted: `VERSION=PERCENT` each; versions that are not named share the rest as before.
            force: whether they may be sent where nobody is to work them off.

        Raises:
            InvalidInput: a share is wrong, or they don't come to 100.
            Unavailable: a version that would get more has no worker ready.
        """
        given = read_shares(wanted, self._spec)
        self._change(lambda shares: filled(shares, given), Why.SET, force=force)

    def promote(self, version: str, *, force: bool) -> None:
        """Give all requests to one version.

        Raises:
            InvalidInput: there is no such version.
            Unavailable: it has no worker ready.
        """
        self._known(version)
        self._change(lambda _: {version: WHOLE}, Why.PROMOTE, force=force)

    def reset(self, *, force: bool) -> None:
        """Follow the weights of models.toml again."""
        self._change(lambda _: {}, Why.RESET, force=force)

    def roll_back(self, *, force: bool) -> None:
        """Have the shares that stood before the last change.

        Raises:
            NotFound: nothing stood before.
            Unavailable: a version that would get more has no worker ready.
        """

        async def roll_back(redis: Commands) -> tuple[Change, list[Standing]]:
            traffic = Traffic(redis)
            now = await traffic.current(self._lanes)
            target = await traffic.before(self._lanes, now)
            if not force:
                await self._check(redis, now, target.shares)
            change = await traffic.roll_back(self._lanes, after=now)
            return change, await self._standings(redis, change)

        self._print(*self._run(roll_back))

    def _change(
        self, wanted: Callable[[Mapping[str, float]], Mapping[str, float]], why: Why, *, force: bool
    ) -> None:
        async def change(redis: Commands) -> tuple[Change, list[Standing]]:
            traffic = Traffic(redis)
            now = await traffic.current(self._lanes)
            shares = wanted(effective(self._spec, now))
            if not force:
                await self._check(redis, now, shares)
            made = await traffic.change(self._lanes, shares, why, after=now)
            return made, await self._standings(redis, made)

        self._print(*self._run(change))

    async def _check(self, redis: Commands, now: Change, shares: Mapping[str, float]) -> None:
        """Make sure that whoever is to get more requests has a worker to work them off."""
        before = effective(self._spec, now)
        after = effective(self._spec, Change(shares=dict(shares)))
        for one in await self._standings(redis, now):
            if after[one.version] > before[one.version] and not one.workers:
                raise Unavailable(
                    f"{one.served} has no worker ready, so its requests would wait"
                    f"{' (built: ' + one.built + ')' if one.built else ''}. Nothing was changed. "
                    f"Start one with `forebay worker {one.served}`, or say --force."
                )

    async def _standings(self, redis: Commands, change: Change) -> list[Standing]:
        at_ms = await now_ms(redis)
        found: list[Standing] = []
        for version, share in effective(self._spec, change).items():
            spec = self._catalog.version(self._spec, version)
            keys = self._keys.of(spec.name)
            lanes = await depth(redis, keys, now_ms=at_ms)
            ended = await counters(redis, keys)
            told = self._spec.versions.get(version)
            found.append(
                Standing(
                    version,
                    spec.name,
                    share,
                    self._built(spec),
                    lanes.replicas,
                    lanes.realtime + lanes.bulk,
                    ended.get("succeeded", 0),
                    ended.get("failed", 0),
                    shadow=told is not None and told.shadow,
                )
            )
        return found

    def _built(self, spec: ModelSpec) -> str:
        if not spec.is_built:
            return ""
        try:
            return self._store.current(spec.name).name[:12]
        except ArtifactError:
            return "no"

    def _known(self, version: str) -> None:
        if version not in self._spec.shares:
            raise no_version(self._spec, version)

    def _print(self, change: Change, standings: Sequence[Standing]) -> None:
        since = f"by {change.why} of {_when(change)}" if change.shares else "by models.toml"
        print(f"{self._spec.name}, {since}:")
        print_table(
            ("version", "share", "built", "workers", "waiting", "succeeded", "failed", ""),
            [
                (
                    one.version,
                    f"{one.share:g} %",
                    one.built,
                    str(one.workers),
                    str(one.waiting),
                    str(one.succeeded),
                    str(one.failed),
                    _note(one),
                )
                for one in standings
            ],
        )

    def _run(self, what: Callable[[Commands], Awaitable[T]]) -> T:
        return ask(self._settings, lambda redis, _: what(redis))


def _note(one: Standing) -> str:
    if one.share and not one.workers:
        return "its requests wait: no worker is ready"
    return "gets copies" if one.shadow and not one.share else ""


def _when(change: Change) -> str:
    if change.at_ms is None:
        return ""
    return datetime.fromtimestamp(change.at_ms / 1000).astimezone().isoformat(" ", "seconds")


def _listed(shares: Mapping[str, float]) -> str:
    told = ", ".join(f"{version} {share:g} %" for version, share in shares.items() if share)
    return told or "as in models.toml"
