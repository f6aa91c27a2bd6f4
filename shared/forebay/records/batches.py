"""Batches in Redis, as clients and operators see them. Holders: `batch_leases`."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from forebay.contract.batches import (
    BATCH_ID,
    LONGEST_WINDOW_S,
    Batch,
    BatchRequest,
    BatchStatus,
    Counts,
    Fault,
    Usage,
)
from forebay.contract.errors import NotFound
from forebay.lanes.keys import Keys
from forebay.records.keys import batch_keys
from forebay.records.scripts import batches as scripts
from forebay.runtime.redis import Commands

_request = msgspec.json.Decoder(BatchRequest)
_faults = msgspec.json.Decoder(tuple[Fault, ...])
_SINCE: Final = "at "


class Page(msgspec.Struct, frozen=True):
    """Some of the batches, and whether there are more behind them."""

    batches: Sequence[Batch]
    more: bool


class Batches:
    """Batches, as clients and operators see them.

    Whatever the server or the connection raises comes out as it is: a
    `redis.exceptions.RedisError`.

    Args:
        redis: where.
        keys: key builder.
        retention_s: how long one is kept once it has ended.

    Attributes:
        redis: as above.
        keys: of batches.
    """

    def __init__(self, redis: Commands, keys: Keys, *, retention_s: float) -> None:
        self.redis = redis
        self.keys = batch_keys(keys)
        self._retention_s = retention_s

    async def add(self, id_: str, request: BatchRequest) -> Batch:
        """Have a batch run. Safe to repeat.

        Args:
            id_: of `new_id`.
            request: what is asked for.
        """
        oldest_ms = (time.time() - LONGEST_WINDOW_S - self._retention_s) * 1000
        await scripts.add(
            self.redis,
            self.keys,
            id_,
            since=f"batch_{max(int(oldest_ms), 0):012x}",
            window_ms=request.window_s * 1000,
            request=msgspec.json.encode(request),
        )
        return await self.get(id_)

    async def get(self, id_: str) -> Batch:
        """A batch.

        Raises:
            NotFound: there is none of that id, or no longer.
        """
        found = await self._read(id_) if BATCH_ID.fullmatch(id_) else None
        if found is None:
            raise NotFound(f"There is no batch {id_[:80]!r}, or no longer.", param="batch_id")
        return found

    async def page(self, *, limit: int, after: str | None = None) -> Page:
        """Batches, the newest first.

        Args:
            limit: the most of them.
            after: the id that the page before ended with; it need not be there any more.
        """
        found: list[Batch] = []
        begin = "+" if after is None else f"({after}"
        while len(found) <= limit:
            ids = await self.redis.execute_command(
                "ZREVRANGEBYLEX", self.keys.index, begin, "-", "LIMIT", 0, limit + 1
            )
            if not ids:
                break
            read = [await self._read(id_.decode()) for id_ in cast(list[bytes], ids)]
            found += [batch for batch in read if batch is not None]
            begin = f"({ids[-1].decode()}"
        return Page(found[:limit], len(found) > limit)

    async def cancel(self, id_: str) -> BatchStatus:
        """Have a batch cancelled, if it is validating or in progress; its status before.

        Raises:
            NotFound: there is none of that id, or no longer.
        """
        before = None
        if BATCH_ID.fullmatch(id_):
            before = await scripts.cancel(self.redis, self.keys, id_)
        if before is None:
            raise NotFound(f"There is no batch {id_[:80]!r}, or no longer.", param="batch_id")
        return BatchStatus(before)

    @property
    def retain_ms(self) -> int:
        """How long a batch is kept once it has ended."""
        return int(self._retention_s * 1000)

    async def _read(self, id_: str) -> Batch | None:
        raw = await self.redis.execute_command("HGETALL", self.keys.batch(id_))
        flat = cast(list[bytes], raw)
        told = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return _batch(id_, told) if told else None


def new_id() -> str:
    """An id that no batch has. Ids sort by age."""
    return f"batch_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


def _batch(id_: str, told: Mapping[str, bytes]) -> Batch:
    def file(kind: str) -> str | None:
        return told[kind].decode() if f"{kind}s" in told else None

    return Batch(
        id=id_,
        request=_request.decode(told["rq"]),
        status=BatchStatus(told["st"].decode()),
        created_at=int(told["ct"]) / 1000,
        expires_at=int(told["ex"]) / 1000,
        since={
            BatchStatus(name.removeprefix(_SINCE)): int(value) / 1000
            for name, value in told.items()
            if name.startswith(_SINCE)
        },
        counts=Counts(*(int(told.get(name, 0)) for name in ("total", "completed", "failed"))),
        usage=Usage(*(int(told.get(name, 0)) for name in ("input", "cached", "output"))),
        faults=_faults.decode(told["faults"]) if "faults" in told else (),
        output_file_id=file("out"),
        error_file_id=file("err"),
    )
