"""What a shadow was sent, and how far its outputs are from those that clients got.

    gateway ──copy──▶ the shadow's bulk lane ──▶ its worker ──▶ record ─┐
        └─────id────▶ copies (a list) ──▶ background ◀── both records ◀─┘
                                              └──▶ disagreement (a hash)

A copy has the id of what it is a copy of, but for the name that the shadow is served under, so one
id leads to both records.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from forebay.contract.prediction import PredictionId
from forebay.lanes import scripts
from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands

MOST_WAITING: Final = 10_000
"""Copies of a shadow that wait to be compared; more push out the oldest, which are counted."""


class Copy(msgspec.Struct, frozen=True):
    """Something that a shadow was sent.

    Attributes:
        original: id of the prediction whose client has, or gets, an answer.
        since_ms: when the copy was made, Unix time in ms.
    """

    original: PredictionId
    since_ms: int

    def id_at(self, served: str) -> PredictionId:
        """The copy's own id, of a shadow that is served under this name."""
        return copy_id(self.original, served)


class Compared(msgspec.Struct, frozen=True):
    """What came of comparing some copies.

    Attributes:
        of: short digest of the shadow's artifact; empty if none answered.
        rows: compared.
        differ: rows that differ by more than is let pass.
        sum: of all rows' differences.
        max: the largest.
        failed: copies that the shadow did not answer, in time or at all.
        gone: copies whose original has no result (any more) to compare with.
    """

    of: str = ""
    rows: int = 0
    differ: int = 0
    sum: float = 0.0
    max: float = 0.0
    failed: int = 0
    gone: int = 0


class Disagreement(Compared, frozen=True):
    """What came of comparing all copies that this artifact was sent.

    Attributes:
        sent: copies that were sent, whatever the artifact.
        dropped: copies that were not, or not compared: the shadow was too slow, or absent.
        waiting: copies that wait to be compared.
        since_s: Unix time of the first comparison.
    """

    sent: int = 0
    dropped: int = 0
    waiting: int = 0
    since_s: int = 0


def copy_id(original: PredictionId, served: str) -> PredictionId:
    """The id of a prediction's copy for a shadow."""
    random = original.text.rpartition("-")[2]
    return PredictionId(f"{served}-{original.shard}-{random}", served, original.shard)


class Shadows:
    """Reads and keeps the books. Whatever the server or the connection raises comes out as it is.

    Args:
        redis: where.
    """

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def sent(self, keys: LaneKeys, copies: Sequence[Copy], *, dropped: int) -> None:
        """Tell what a shadow was sent.

        Args:
            keys: of the shadow.
            copies: that are to be compared.
            dropped: copies that were not made.
        """
        packed = [f"{copy.original.text}:{copy.since_ms}" for copy in copies]
        await scripts.copied(
            self._redis,
            keys,
            most=MOST_WAITING,
            counters={"sent": len(copies), "dropped": dropped},
            copies=packed,
        )

    async def take(self, keys: LaneKeys, *, most: int) -> list[Copy]:
        """Take copies to compare, the oldest first; nobody else gets them."""
        taken = await self._redis.execute_command("LPOP", keys.copies, most)
        found: list[Copy] = []
        for raw in cast(list[bytes], taken or ()):
            id_, _, since_ms = raw.decode().rpartition(":")
            found.append(Copy(PredictionId.parse(id_), int(since_ms)))
        return found

    async def put_back(self, keys: LaneKeys, copies: Sequence[Copy]) -> None:
        """Have copies compared later: the shadow is not done with them."""
        packed = [f"{copy.original.text}:{copy.since_ms}" for copy in copies]
        await scripts.copied(self._redis, keys, most=MOST_WAITING, counters={}, copies=packed)

    async def compared(self, keys: LaneKeys, result: Compared) -> None:
        """Add what came of comparing."""
        counters = {
            "rows": result.rows,
            "differ": result.differ,
            "failed": result.failed,
            "gone": result.gone,
        }
        await scripts.copied(
            self._redis,
            keys,
            most=MOST_WAITING,
            of=result.of,
            sum_=result.sum,
            largest=result.max,
            counters=counters,
        )

    async def disagreement(self, keys: LaneKeys) -> Disagreement:
        """What came of comparing all copies."""
        flat = await self._redis.execute_command("HGETALL", keys.disagreement)
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        told: Mapping[bytes, bytes] = dict(cast(Sequence[tuple[bytes, bytes]], pairs))
        whole = {
            name: int(told.get(name.encode(), 0))
            for name in ("rows", "differ", "failed", "gone", "sent", "dropped")
        }
        return Disagreement(
            of=told.get(b"of", b"").decode(),
            sum=float(told.get(b"sum", 0)),
            max=float(told.get(b"max", 0)),
            waiting=int(await self._redis.execute_command("LLEN", keys.copies)),
            since_s=int(told.get(b"since", 0)),
            **whole,
        )

    async def forget(self, keys: LaneKeys) -> None:
        """Start anew."""
        await self._redis.execute_command("DEL", keys.disagreement)
