"""Batches in the hands of who works on them.

open ──take──▶ held: renew, keep, turn … ──turn to its end, close──▶ kept for its retention
▲               │
└──lease over───┘  or its holder's process has ended and a neighbour saw it (free); whoever takes it
next has another mark, and what the one before still says is refused
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

import msgspec

from forebay.contract.batches import Batch, BatchStatus, Fault, Usage
from forebay.contract.errors import NotFound
from forebay.records.batches import Batches
from forebay.records.scripts import batches as scripts
from forebay.runtime.redis import Arg

_MARK_BITS: Final = 48


class LeaseLost(Exception):  # noqa: N818 - no error, but news
    """Another holds the batch now, or it is gone."""


class Progress(msgspec.Struct, frozen=True):
    """What is kept of a batch for who goes on with it.

    Attributes:
        done: a bit for each line of its file, the first bit of a byte the highest.
        out: segments of the file of answers, in order.
        err: likewise of errors.
    """

    done: bytes
    out: Sequence[int]
    err: Sequence[int]

    def has(self, line: int) -> bool:
        """Whether a line is done, counted from 0."""
        byte, bit = divmod(line, 8)
        return byte < len(self.done) and bool(self.done[byte] & (0x80 >> bit))

    @property
    def lines(self) -> int:
        """How many lines are done."""
        return int.from_bytes(self.done).bit_count()


class FileIds(msgspec.Struct, frozen=True):
    """Ids of a batch's files, chosen before they are made."""

    out: str
    err: str


class Held:
    """A batch that this process holds, as long as it renews its lease.

    Args:
        batches: where it is from.
        id_: of the batch.
        mark: of this holder alone; what those with another say is refused.
        lease_ms: how long it is held without being renewed.

    Attributes:
        id: of the batch.
        mark: as above.
    """

    def __init__(
        self,
        batches: Batches,
        id_: str,
        mark: int,
        *,
        lease_ms: int,
    ) -> None:
        self.id = id_
        self.mark = mark
        self._batches = batches
        self._redis = batches.redis
        self._keys = batches.keys
        self._lease_ms = lease_ms

    async def read(self) -> Batch:
        """The batch, as it stands.

        Raises:
            LeaseLost: it is gone.
        """
        try:
            return await self._batches.get(self.id)
        except NotFound:
            raise LeaseLost from None

    async def files(self) -> FileIds | None:
        """The ids chosen for its files; None if none are yet."""
        out, err = await self._redis.execute_command(
            "HMGET", self._keys.batch(self.id), "out", "err"
        )
        return None if out is None or err is None else FileIds(out.decode(), err.decode())

    async def progress(self) -> Progress:
        """How far it was brought."""
        done = await self._redis.execute_command("GET", self._keys.done(self.id))
        raw = await self._redis.execute_command("LRANGE", self._keys.segments(self.id), 0, -1)
        segments: dict[str, list[int]] = {"out": [], "err": []}
        for segment in cast(list[bytes], raw):
            kind, _, index = segment.decode().partition(" ")
            segments[kind].append(int(index))
        return Progress(cast(bytes | None, done) or b"", segments["out"], segments["err"])

    async def renew(self) -> tuple[BatchStatus, float]:
        """Renew the lease; the batch's status, and the server's Unix time in seconds.

        Raises:
            LeaseLost: it is held no longer.
        """
        renewed = await scripts.renew(
            self._redis, self._keys, self.id, self.mark, lease_ms=self._lease_ms
        )
        if renewed is None:
            raise LeaseLost
        return BatchStatus(renewed[0]), renewed[1] / 1000

    async def release(self) -> None:
        """Give it back, so that another takes it at once."""
        await scripts.renew(self._redis, self._keys, self.id, self.mark, lease_ms=0)

    async def keep(
        self,
        *,
        completed: int,
        failed: int,
        usage: Usage,
        out: int | None,
        err: int | None,
        lines: Sequence[int],
    ) -> BatchStatus:
        """Record that lines are done; call when the segments are durable. Safe to repeat.

        Args:
            completed: how many of them have an answer.
            failed: how many an error.
            usage: what the answers cost.
            out: the segment that has the answers.
            err: the one that has the errors.
            lines: from 0; at least one.

        Returns:
            The batch's status.

        Raises:
            LeaseLost: it is held no longer; the segments count for nothing.
        """
        status = await scripts.keep(
            self._redis,
            self._keys,
            self.id,
            self.mark,
            counts=(completed, failed),
            usage=usage,
            segments=("" if out is None else str(out), "" if err is None else str(err)),
            lines=lines,
        )
        if status is None:
            raise LeaseLost
        return BatchStatus(status)

    async def turn(
        self, status: BatchStatus, fields: Mapping[str, Arg] | None = None
    ) -> BatchStatus:
        """Give it another status, unless it is being cancelled and that is not its end.

        Args:
            status: that it is to have.
            fields: what else is to be known of it, by name.

        Returns:
            Its status then.

        Raises:
            LeaseLost: it is held no longer.
        """
        turned = await scripts.turn(
            self._redis,
            self._keys,
            self.id,
            self.mark,
            status.value,
            retain_ms=self._batches.retain_ms if status.terminal else 0,
            fields=fields or {},
        )
        if turned is None:
            raise LeaseLost
        return BatchStatus(turned)

    async def ending(self) -> tuple[FileIds | None, BatchStatus]:
        """Ids of the files that are to be made, and the status that it is to end with."""
        status, expired = await self._redis.execute_command(
            "HMGET", self._keys.batch(self.id), "st", "expired"
        )
        if status == BatchStatus.CANCELLING.value.encode():
            return await self.files(), BatchStatus.CANCELLED
        end = BatchStatus.COMPLETED if expired is None else BatchStatus.EXPIRED
        return await self.files(), end

    async def close(self) -> None:
        """Let go of it for good: it has ended, and all who want to know have been told."""
        await self._redis.execute_command("ZREM", self._keys.open, self.id)

    async def broken(self) -> int:
        """Count that who held it found itself at fault; how often that was so."""
        count = await self._redis.execute_command("HINCRBY", self._keys.batch(self.id), "broken", 1)
        return int(count)


async def take(batches: Batches, *, lease_s: float, most: int, who: str) -> list[Held]:
    """Take batches that nobody holds.

    Args:
        batches: all there are.
        lease_s: how long one is held without being renewed.
        most: so many.
        who: name of this process.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    lease_ms = int(lease_s * 1000)
    mark = secrets.randbits(_MARK_BITS)
    taken = await scripts.take(
        batches.redis, batches.keys, lease_ms=lease_ms, most=most, mark=mark, who=who
    )
    return [Held(batches, id_, mark, lease_ms=lease_ms) for id_ in taken]


async def free(batches: Batches, is_gone: Callable[[str], bool]) -> int:
    """Give back what is held by processes that have ended and couldn't; how many batches.

    Whoever takes one of them in between keeps it: what is given back is the ended holder's.

    Args:
        batches: all there are.
        is_gone: whether the process of a name has certainly ended.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    freed = 0
    for id_, mark, who in await scripts.holders(batches.redis, batches.keys):
        if is_gone(who):
            await Held(batches, id_, mark, lease_ms=0).release()
            freed += 1
    return freed


def fields_of(
    *,
    total: int | None = None,
    files: FileIds | None = None,
    expired: bool = False,
    faults: Sequence[Fault] = (),
    made: tuple[bool, bool] = (False, False),
) -> dict[str, Arg]:
    """What `Held.turn` may say of a batch beside its status.

    Args:
        total: lines with a request.
        files: the ids chosen for its files.
        expired: its window is over.
        faults: of its input.
        made: whether there is a file of answers, and one of errors.
    """
    fields: dict[str, Arg] = {}
    if total is not None:
        fields["total"] = total
    if files is not None:
        fields |= {"out": files.out, "err": files.err}
    if faults:
        fields["faults"] = msgspec.json.encode(list(faults))
    for name, there in zip(("expired", "outs", "errs"), (expired, *made), strict=True):
        if there:
            fields[name] = 1
    return fields
