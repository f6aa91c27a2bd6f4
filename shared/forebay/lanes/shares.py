"""The shares of models' versions as they are followed, and the version that something is given to.

They are in Redis, over what `models.toml` says (`traffic`). Whoever splits requests reads them once
a second, and only where a model has more than one version; while Redis is out of reach the last
ones known hold. What has been given to a version stays there, whatever changes then.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from redis.exceptions import RedisError

from forebay.contract.model import ModelSpec
from forebay.contract.versions import choose
from forebay.lanes.keys import Keys
from forebay.lanes.lane import unavailable
from forebay.lanes.traffic import Change, Traffic, effective
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the shares are read."""


class Shares:
    """Shares of the versions of all models that have several.

    Args:
        catalog: the models there are.
        traffic: the shares as they are in Redis.
        keys: key builder.
        link: whether Redis is within reach.
    """

    def __init__(self, catalog: Catalog, traffic: Traffic, keys: Keys, link: Link) -> None:
        self._catalog = catalog
        self._traffic = traffic
        self._keys = keys
        self._link = link
        self._models = [spec for spec in catalog.models.values() if spec.versions]
        self._changes: dict[str, Change] = {}
        self._shares: dict[str, dict[str, float]] = {}

    def __bool__(self) -> bool:
        """Whether any model has more than one version."""
        return bool(self._models)

    def shares(self, spec: ModelSpec) -> Mapping[str, float]:
        """Shares of a model's versions, per cent.

        Raises:
            Unavailable: they have never been read, as Redis was out of reach all the time.
        """
        shares = self._shares.get(spec.name)
        if shares is None:
            raise unavailable()
        return shares

    def chosen(self, spec: ModelSpec, key: str) -> ModelSpec:
        """The version of a model that something goes to.

        The same key goes to the same version while shares stand; an empty one to any, by chance.

        Raises:
            Unavailable: the shares have never been read.
        """
        # With the model's name, or the same tenth of all keys would try every model's canary.
        salted = f"{spec.name}\0{key}".encode() if key else None
        return self._catalog.version(spec, choose(self.shares(spec), salted))

    async def run(self) -> None:
        """Follow the shares until cancelled."""
        while True:
            await self._link.returned()
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Read the shares once; those of a model that can't be read stay as they are."""
        for spec in self._models:
            try:
                change = await self._traffic.current(self._keys.of(spec.name))
            except (RedisError, OSError) as error:
                log.debug("the shares of %s can't be read: %s", spec.name, error)
                self._link.suspect(error)
                continue
            if change != self._changes.get(spec.name):
                self._changes[spec.name] = change
                self._shares[spec.name] = shares = effective(spec, change)
                told = ", ".join(f"{version} {share:g} %" for version, share in shares.items())
                log.info("requests for %s go to %s", spec.name, told)
