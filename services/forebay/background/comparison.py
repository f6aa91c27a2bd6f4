"""Compares what a shadow answered with what clients got, by the records of both."""

from collections.abc import Sequence

from redis.exceptions import ResponseError

from forebay.background.disagreement import difference
from forebay.contract.prediction import Status
from forebay.contract.rows import Output
from forebay.lanes.keys import Keys
from forebay.lanes.predictions import Record, Records
from forebay.lanes.shadows import Compared, Copy, Shadows
from forebay.runtime.redis import Commands, now_ms

BITE = 100
"""Copies between two words to Redis about what came of them."""


class Comparison:
    """One shadow's comparison.

    Args:
        redis: client with a timeout.
        keys: key builder.
        shadow: what it is served under.
        late_ms: copies that are as old and not done are given up: the original's result is gone.
    """

    def __init__(self, redis: Commands, keys: Keys, shadow: str, *, late_ms: int) -> None:
        self._redis = redis
        self._records = Records(redis, keys)
        self._books = Shadows(redis)
        self._keys = keys.of(shadow)
        self._shadow = shadow
        self._late_ms = late_ms

    async def run(self, *, most: int) -> int:
        """Compare copies that are done, the oldest first; how many.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        done = 0
        early: list[Copy] = []
        for _ in range(0, most, BITE):
            copies = await self._books.take(self._keys, most=BITE)
            waiting = await self._bite(copies)
            early += waiting
            done += len(copies) - len(waiting)
            if len(copies) < BITE:
                break
        if early:
            await self._books.put_back(self._keys, early)
        return done

    async def _bite(self, copies: Sequence[Copy]) -> list[Copy]:
        """Compare some; returns those that are not done yet."""
        at_ms = await now_ms(self._redis)
        early: list[Copy] = []
        books: dict[str, list[Compared]] = {}
        for copy in copies:
            mirrored = await self._records.record(copy.id_at(self._shadow))
            original = await self._records.record(copy.original)
            open_ = any(one and not one.status.terminal for one in (mirrored, original))
            if open_ and at_ms - copy.since_ms < self._late_ms:
                early.append(copy)
                continue
            found = await self._compared(original, mirrored)
            books.setdefault(found.of, []).append(found)
        for of, some in books.items():
            await self._books.compared(self._keys, _together(of, some))
        return early

    async def _compared(self, original: Record | None, mirrored: Record | None) -> Compared:
        if mirrored is None or mirrored.status is not Status.SUCCEEDED:
            return Compared(failed=1)
        of = next((reply.version for reply in mirrored.replies if reply.version), "") or ""
        if original is None or original.status is not Status.SUCCEEDED:
            return Compared(of, gone=1)
        try:
            wanted = await self._records.outputs(original.replies)
            found = await self._records.outputs(mirrored.replies)
        except (LookupError, ResponseError):
            return Compared(of, gone=1)
        return compare(of, wanted, found)


def compare(of: str, wanted: Sequence[Output], found: Sequence[Output]) -> Compared:
    """What came of one copy.

    Args:
        of: short digest of the shadow's artifact.
        wanted: outputs that the client got.
        found: those of the shadow.
    """
    apart = [difference(one, other) for one, other in zip(wanted, found, strict=True)]
    differences = [far for far, _ in apart]
    return Compared(
        of,
        rows=len(apart),
        differ=sum(other for _, other in apart),
        sum=sum(differences),
        max=max(differences, default=0.0),
    )


def _together(of: str, some: Sequence[Compared]) -> Compared:
    return Compared(
        of,
        rows=sum(one.rows for one in some),
        differ=sum(one.differ for one in some),
        sum=sum(one.sum for one in some),
        max=max(one.max for one in some),
        failed=sum(one.failed for one in some),
        gone=sum(one.gone for one in some),
    )
