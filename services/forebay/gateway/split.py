"""Which version of a model a request goes to, by the shares that operators have set.

The shares are in Redis, over what `models.toml` says (`lanes/traffic.py`). A gateway reads them
once a second, and only where a model has more than one version; while Redis is out of reach the
last ones known hold. A request that has been given to a version stays there, whatever changes then.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from redis.exceptions import RedisError

from forebay.contract.model import ModelSpec
from forebay.contract.versions import choose
from forebay.gateway.names import Name
from forebay.lanes.keys import Keys
from forebay.lanes.lane import unavailable
from forebay.lanes.traffic import Change, Traffic, effective
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the shares are read."""

STICKY_HEADER: Final = b"x-forebay-sticky-key"
"""Header, and name in a gRPC call's metadata, of the key that keeps its version."""

VERSION_HEADER: Final = b"x-forebay-version"
"""Header of an answer that says which of a model's versions gave it."""

Sticky = Callable[[], str]
"""Tells what a client gives for its requests to stay with one version; empty if nothing."""


class Split:
    """Splits models' requests over their versions.

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

    def served(self, spec: ModelSpec, sticky: Sticky | None, name: Name | None) -> ModelSpec:
        """The version that a request for a model goes to.

        The same key goes to the same version while shares stand: what the client gives for it, or
        else its Idempotency-Key. Requests with neither go to any, by their shares.

        Raises:
            Unavailable: the shares have never been read.
        """
        key = sticky() if sticky is not None else ""
        if not key and name is not None:
            key = name.key
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
