"""Stubs of the scripts that are about batches."""

from collections.abc import Mapping, Sequence
from typing import cast

from forebay.contract.batches import Usage
from forebay.records.keys import BatchKeys
from forebay.runtime.redis import Arg, Commands, Script

_SCRIPTS = "forebay.records.scripts"
_add = Script(_SCRIPTS, "batch_add", adds=True)
_take = Script(_SCRIPTS, "batch_take")
_holders = Script(_SCRIPTS, "batch_holders")
_renew = Script(_SCRIPTS, "batch_renew")
_keep = Script(_SCRIPTS, "batch_keep")
_turn = Script(_SCRIPTS, "batch_turn")
_cancel = Script(_SCRIPTS, "batch_cancel")


async def add(
    redis: Commands, keys: BatchKeys, id_: str, *, since: str, window_ms: int, request: bytes
) -> None:
    """`batch_add.lua`.

    Args:
        redis: where.
        keys: of batches.
        id_: of the new one.
        since: what the index begins with from now on, as an id.
        window_ms: how long it may take.
        request: what is asked for.
    """
    await _add.call(
        redis, [keys.batch(id_), keys.open, keys.index], [id_, since, window_ms, request]
    )


async def take(
    redis: Commands, keys: BatchKeys, *, lease_ms: int, most: int, mark: int, who: str
) -> list[str]:
    """`batch_take.lua`: ids."""
    reply = await _take.call(redis, [keys.open], [keys.batches, lease_ms, most, mark, who])
    return [cast(bytes, id_).decode() for id_ in reply]


async def holders(redis: Commands, keys: BatchKeys) -> list[tuple[str, int, str]]:
    """`batch_holders.lua`: ids, the marks of their holders, and the names of those."""
    reply = await _holders.call(redis, [keys.open], [keys.batches])
    held = cast(list[tuple[bytes, bytes, bytes]], reply)
    return [(id_.decode(), int(mark), who.decode()) for id_, mark, who in held]


async def renew(
    redis: Commands, keys: BatchKeys, id_: str, mark: int, *, lease_ms: int
) -> tuple[str, int] | None:
    """`batch_renew.lua`: its status and the server's time; None if it is held no longer."""
    reply = await _renew.call(redis, [keys.batch(id_), keys.open], [id_, mark, lease_ms])
    return None if reply is None else (cast(bytes, reply[0]).decode(), int(reply[1]))


async def keep(
    redis: Commands,
    keys: BatchKeys,
    id_: str,
    mark: int,
    *,
    counts: tuple[int, int],
    usage: Usage,
    segments: tuple[str, str],
    lines: Sequence[int],
) -> str | None:
    """`batch_keep.lua`: its status; None if it is held no longer.

    Args:
        redis: where.
        keys: of batches.
        id_: of the batch.
        mark: of who holds it.
        counts: lines with an answer, and with an error.
        usage: what the answers cost.
        segments: of answers and of errors, where there are such.
        lines: that are done, from 0; at least one.
    """
    reply = await _keep.call(
        redis,
        [keys.batch(id_), keys.done(id_), keys.segments(id_)],
        [mark, *counts, usage.input, usage.cached, usage.output, *segments, *lines],
    )
    return None if reply is None else cast(bytes, reply).decode()


async def turn(
    redis: Commands,
    keys: BatchKeys,
    id_: str,
    mark: int,
    status: str,
    *,
    retain_ms: int = 0,
    fields: Mapping[str, Arg],
) -> str | None:
    """`batch_turn.lua`: its status then; None if it is held no longer.

    Args:
        redis: where.
        keys: of batches.
        id_: of the batch.
        mark: of who holds it.
        status: that it is to have.
        retain_ms: how long it is kept if that is its end.
        fields: what else is to be known of it.
    """
    flat = [arg for pair in fields.items() for arg in pair]
    reply = await _turn.call(
        redis,
        [keys.batch(id_), keys.done(id_), keys.segments(id_)],
        [mark, status, retain_ms, *flat],
    )
    return None if reply is None else cast(bytes, reply).decode()


async def cancel(redis: Commands, keys: BatchKeys, id_: str) -> str | None:
    """`batch_cancel.lua`: its status before; None if there is no such batch."""
    reply = await _cancel.call(redis, [keys.batch(id_)], [])
    return None if reply is None else cast(bytes, reply).decode()
