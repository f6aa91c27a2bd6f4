"""What time does to lanes: deadlines pass, workers vanish, dead letters grow old.

The background calls these on a schedule. Each is idempotent and takes a bounded bite, so two at
once do no harm and none holds the server up. Whatever the server or the connection raises comes
out as it is, a `redis.exceptions.RedisError`: the next sweep does what this one could not.
"""

from collections.abc import Iterable
from typing import cast

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply, encode
from forebay.contract.prediction import Status
from forebay.lanes import scripts
from forebay.lanes.consumer import RELEASED_IDLE_MS
from forebay.lanes.keys import Keys, LaneKeys
from forebay.lanes.scripts import FinishOutcome
from forebay.runtime.redis import Arg, Commands, now_ms

BITE = 100
"""Predictions ended in one script call."""

LISTED_BITE = 1_000
"""Predictions of the list that are looked at in one script call."""


async def models_to_sweep(redis: Commands, keys: Keys, catalog: Iterable[str]) -> list[str]:
    """The models of a catalog, then those that were ever swept and are in it no more.

    What was accepted for a model outlives its entry in the catalog: somebody has to end it
    (decision 0013).
    """
    served = list(catalog)
    members = cast(Iterable[bytes], await redis.execute_command("SMEMBERS", keys.models))
    swept = {raw.decode() for raw in members}
    # Nothing is written that is there already: a server whose memory is full refuses writes, and
    # is to be swept all the same.
    if new := [model for model in served if model not in swept]:
        await redis.execute_command("SADD", keys.models, *new)
    return [*served, *sorted(swept.difference(served))]


async def expire_overdue(redis: Commands, keys: LaneKeys, *, most: int = 10_000) -> int:
    """End predictions whose deadline has passed; returns how many."""
    expired = 0
    while expired < most:
        at_ms = await now_ms(redis)
        overdue = cast(
            list[bytes],
            await redis.execute_command(
                "ZRANGEBYSCORE", keys.deadlines, "-inf", at_ms, "LIMIT", 0, BITE
            ),
        )
        if not overdue:
            break
        args: list[Arg] = []
        for id_ in (raw.decode() for raw in overdue):
            reply = Reply(
                prediction=id_,
                status=Status.EXPIRED,
                completed_at_ms=at_ms,
                error=ErrorInfo(
                    ErrorKind.DEADLINE_EXCEEDED,
                    "The prediction was not done before its deadline. Try again, or give it "
                    "more time on the bulk lane.",
                ),
            )
            args += (id_, Status.EXPIRED.value, encode(reply))
        outcomes = await scripts.finish(
            redis, keys, records=[keys.record(raw.decode()) for raw in overdue], args=args
        )
        expired += sum(outcome is FinishOutcome.ENDED for outcome in outcomes)
        if len(overdue) < BITE:
            break
    return expired


async def lapse_orphans(redis: Commands, keys: LaneKeys, *, grace_ms: int) -> tuple[int, int]:
    """Let go what vanished workers held, and remove their empty consumers.

    Returns:
        Leases released and consumers removed.
    """
    released = removed = 0
    for stream in keys.streams:
        some, gone = await scripts.tidy(
            redis, keys, stream=stream, grace_ms=grace_ms, idle_ms=RELEASED_IDLE_MS
        )
        released += some
        removed += gone
    return released, removed


async def unlist_gone(redis: Commands, keys: LaneKeys, *, most: int = 50_000) -> int:
    """Take predictions off the list whose records are gone; returns how many.

    Looked at from the oldest on, until a bite has none: what is gone is hidden from readers
    anyway, and is old in all likelihood.
    """
    taken, after = 0, "-"
    while after and taken < most:
        gone, after = await scripts.unlist(redis, keys, after=after, most=LISTED_BITE)
        taken += gone
        if not gone:
            break
    return taken


async def drop_old_dead_letters(redis: Commands, keys: LaneKeys, *, older_than_ms: int) -> int:
    """Drop dead letters past their retention; returns how many."""
    oldest_ms = max(await now_ms(redis) - older_than_ms, 0)
    return int(await redis.execute_command("XTRIM", keys.dead, "MINID", oldest_ms))
