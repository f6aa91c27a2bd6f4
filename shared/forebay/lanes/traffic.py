"""The shares of a model's versions as operators set them, with their history.

    set v2=10 ──▶ set v2=50 ──▶ promote v2 ──▶ rollback
    before: –     before: 1st   before: 2nd    shares of the 2nd, before: 1st

Each change is an entry of a stream, and the last one holds, over what `models.toml` says. An entry
knows the one that rolling it back leads to, so that rolling back again goes a step further back,
and not forth. A model without any change follows `models.toml`.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, cast

import msgspec

from forebay.contract.errors import ForebayError, NotFound
from forebay.contract.model import ModelSpec
from forebay.contract.versions import WHOLE
from forebay.lanes import scripts
from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands

MOST_KEPT: Final = 100
"""Changes of a model that are kept, to be looked at and to be rolled back to."""


class Why(StrEnum):
    """What made a change."""

    SET = "set"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RESET = "reset"


class Change(msgspec.Struct, frozen=True):
    """One change of a model's shares.

    Attributes:
        entry: in the stream; empty for what stood before any change.
        shares: by version, per cent; empty for those of `models.toml`.
        why: what made it; None before any change.
        before: entry of the change that rolling this one back leads to; empty for `models.toml`.
    """

    entry: str = ""
    shares: dict[str, float] = {}
    why: Why | None = None
    before: str = ""

    @property
    def at_ms(self) -> int | None:
        """Unix time in ms, by the server's clock; None before any change."""
        return int(self.entry.partition("-")[0]) if self.entry else None


AS_THE_CATALOG_SAYS: Final = Change()
"""What holds before any change."""

RawEntry = tuple[bytes, list[bytes]]


class Traffic:
    """The shares of models' versions in Redis.

    Whatever the server or the connection raises comes out as it is: a
    `redis.exceptions.RedisError`.

    Args:
        redis: where.
    """

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def current(self, keys: LaneKeys) -> Change:
        """The change that holds."""
        newest = await self.history(keys, most=1)
        return newest[0] if newest else AS_THE_CATALOG_SAYS

    async def history(self, keys: LaneKeys, *, most: int = MOST_KEPT) -> list[Change]:
        """Changes, the newest first."""
        entries = await self._redis.execute_command(
            "XREVRANGE", keys.traffic, "+", "-", "COUNT", most
        )
        return [_change(entry) for entry in cast(list[RawEntry], entries)]

    async def change(
        self, keys: LaneKeys, shares: Mapping[str, float], why: Why, *, after: Change
    ) -> Change:
        """Set the shares of a model's versions.

        Args:
            keys: of the model's first shard.
            shares: by version, per cent; empty for those of `models.toml`.
            why: what makes the change.
            after: the change that the caller takes to hold now.

        Raises:
            ForebayError: another change has come since; nothing was changed.
        """
        return await self._write(keys, shares, why, after=after, before=after.entry)

    async def roll_back(self, keys: LaneKeys, *, after: Change) -> Change:
        """Have what stood before the change that holds.

        Args:
            keys: of the model's first shard.
            after: the change that the caller takes to hold now.

        Raises:
            NotFound: nothing stood before it, or that is no longer kept.
            ForebayError: another change has come since; nothing was changed.
        """
        target = await self.before(keys, after)
        return await self._write(
            keys, target.shares, Why.ROLLBACK, after=after, before=target.before
        )

    async def before(self, keys: LaneKeys, change: Change) -> Change:
        """The change that rolling one back leads to.

        Raises:
            NotFound: nothing stood before it, or that is no longer kept.
        """
        if not change.entry or (change.why is Why.ROLLBACK and not change.shares):
            raise NotFound("There is nothing to roll back to: models.toml's weights hold.")
        if not change.before:
            return AS_THE_CATALOG_SAYS
        found = await self._redis.execute_command(
            "XRANGE", keys.traffic, change.before, change.before
        )
        if not found:
            raise NotFound(
                f"What stood before is no longer kept, after {MOST_KEPT} changes: set the weights."
            )
        return _change(cast(list[RawEntry], found)[0])

    async def _write(
        self,
        keys: LaneKeys,
        shares: Mapping[str, float],
        why: Why,
        *,
        after: Change,
        before: str,
    ) -> Change:
        told = dict(shares)
        entry = await scripts.traffic(
            self._redis,
            keys,
            last=after.entry,
            most=MOST_KEPT,
            fields=("s", msgspec.json.encode(told), "w", why.value, "b", before),
        )
        if entry is None:
            raise ForebayError(
                "Somebody else has just changed the weights; nothing was changed. Look at them, "
                "and try again."
            )
        return Change(entry, told, why, before)


def effective(spec: ModelSpec, change: Change) -> dict[str, float]:
    """What a change comes to with the versions that a catalog has, per cent.

    A version that is in the change and not in the catalog gets nothing, and the others share what
    was its; if none is left, the catalog's own shares hold.
    """
    own = spec.shares
    kept = {version: change.shares.get(version, 0.0) for version in own}
    total = math.fsum(kept.values())
    if total <= 0:
        return own
    return {version: share * WHOLE / total for version, share in kept.items()}


def _change(raw: RawEntry) -> Change:
    entry, flat = raw
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Change(
        entry.decode(),
        msgspec.json.decode(fields[b"s"], type=dict[str, float]),
        Why(fields[b"w"].decode()),
        fields[b"b"].decode(),
    )
