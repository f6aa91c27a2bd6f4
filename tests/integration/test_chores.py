"""The background's chores by themselves, on a real server: which models they look after."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from forebay.background.chores import Chores
from forebay.contract.errors import ErrorKind
from forebay.contract.prediction import Lane, Status
from forebay.lanes.keys import Keys
from forebay.lanes.listing import Listing
from forebay.lanes.predictions import Records
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.gateway_end import echo_spec
from tests.fixtures.lanes import (
    enqueue,
    finish,
    hash_of,
    join,
    read,
    submission,
    ttl_ms,
    vanish,
    view,
)
from tests.fixtures.servers import LaneServer, Server, real_client
from tests.fixtures.waiting import PATIENCE_S

RETAIN_MS = 60_000

MakeChores = Callable[..., Chores]


@pytest.fixture
def chores_of(redis_url: str, key_prefix: str) -> Iterator[MakeChores]:
    """Makes the chores of a process whose catalog has these models."""
    made: list[Chores] = []

    def make(*models: str, url: str = redis_url) -> Chores:
        settings = Settings(
            redis_url=url, key_prefix=key_prefix, presence_s=0.001, dead_letter_retention_s=60
        )
        catalog = Catalog({name: echo_spec(name) for name in models})
        made.append(Chores(settings, catalog))
        return made[-1]

    yield make
    for chores in made:
        chores.close()


async def do(chore: Callable[[], int]) -> int:
    """What a chore counts, without holding up this test's event loop."""
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.to_thread(chore)


async def test_what_a_removed_model_had_accepted_expires_at_its_deadline(
    real_lanes: LaneServer, chores_of: MakeChores
) -> None:
    assert await do(chores_of("echo", "other").expire_overdue) == 0
    overdue = submission(2, deadline_ms=-1, retain_ms=RETAIN_MS)
    in_time = submission(lane=Lane.BULK)
    await enqueue(real_lanes, overdue, in_time)

    later = chores_of("other")
    assert await do(later.expire_overdue) == 1
    prediction = await Records(real_lanes.redis, real_lanes.keys).prediction(overdue.id)
    assert prediction is not None
    assert prediction.status is Status.EXPIRED
    assert prediction.error is not None
    assert prediction.error.kind is ErrorKind.DEADLINE_EXCEEDED
    record = real_lanes.echo.record(overdue.id.text)
    assert 0 < await ttl_ms(real_lanes.redis, record) <= RETAIN_MS
    seen = await view(real_lanes)
    assert seen.demand == {Lane.REALTIME: 0, Lane.BULK: 1}
    assert seen.deadlines == {in_time.id.text}


async def test_orphans_and_dead_letters_of_a_removed_model_are_looked_after_too(
    real_lanes: LaneServer, chores_of: MakeChores
) -> None:
    await do(chores_of("echo").lapse_orphans)
    for id_ in ("1-0", "*"):
        await real_lanes.redis.execute_command("XADD", real_lanes.echo.dead, id_, "reason", "x")
    await enqueue(real_lanes, submission())
    gone = await join(real_lanes, "gone")
    await read(gone, 1)
    await vanish(real_lanes, gone)

    later = chores_of("other")
    assert await do(later.lapse_orphans) == 0
    absent = await hash_of(real_lanes.redis, real_lanes.echo.absences)
    assert set(absent) == {"gone"}
    assert await do(later.drop_dead_letters) == 1
    assert await real_lanes.redis.execute_command("XLEN", real_lanes.echo.dead) == 1


async def test_what_a_removed_model_keeps_no_longer_is_taken_off_the_list(
    real_lanes: LaneServer, chores_of: MakeChores
) -> None:
    gone, kept = submission(input=b"1", retain_ms=0), submission(input=b"1")
    await enqueue(real_lanes, gone, kept)
    assert await do(chores_of("echo").unlist_predictions) == 0
    await finish(real_lanes, gone.id)
    assert await do(chores_of("other").unlist_predictions) == 1
    listing = Listing(real_lanes.redis, real_lanes.keys)
    left = await listing.older(["echo"], None, most=10)
    assert [one.prediction for one in left] == [kept.id.text]


async def test_a_model_that_no_catalog_ever_had_is_left_alone(
    real_lanes: LaneServer, chores_of: MakeChores
) -> None:
    await enqueue(real_lanes, submission(deadline_ms=-1))
    assert await do(chores_of("other").expire_overdue) == 0


async def test_what_redis_refuses_for_one_model_keeps_no_other_from_being_swept(
    real_lanes: LaneServer, chores_of: MakeChores, caplog: pytest.LogCaptureFixture
) -> None:
    chores = chores_of("broken", "echo")
    broken = real_lanes.keys.of("broken")
    await real_lanes.redis.execute_command("SET", broken.deadlines, "no set")
    await enqueue(real_lanes, submission(deadline_ms=-1))
    assert await do(chores.expire_overdue) == 1
    (told,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert told.startswith("redis refuses a sweep of broken: ")


async def test_a_server_whose_memory_is_full_is_relieved_of_old_dead_letters(
    private_server: Server, keys: Keys, chores_of: MakeChores
) -> None:
    chores = chores_of("echo", url=private_server.url)
    lanes = LaneServer("real", lambda _: real_client(private_server.url), keys)
    try:
        assert await do(chores.drop_dead_letters) == 0
        await lanes.redis.execute_command("XADD", lanes.echo.dead, "1-0", "reason", "x")
        await lanes.redis.execute_command("CONFIG", "SET", "maxmemory", "1")
        assert await do(chores.drop_dead_letters) == 1
    finally:
        await lanes.close()
