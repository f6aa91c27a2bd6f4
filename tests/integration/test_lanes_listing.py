"""Conformance of the lanes, on the fake and on the real server: the list of predictions."""

import msgspec

from forebay.contract.prediction import Lane, PredictionId
from forebay.lanes import scripts, sweeps
from forebay.lanes.lane import Submission
from forebay.lanes.listing import Listed, Listing, Spot
from tests.fixtures.lanes import enqueue, finish, join, read, settlement, submission
from tests.fixtures.servers import LaneServer

INPUT = b'{"value": 1}'


def kept(model: str = "echo") -> Submission:
    """A prediction whose client has its id."""
    return msgspec.structs.replace(submission(input=INPUT), id=PredictionId.new(model))


async def put(lanes: LaneServer, *submissions: Submission) -> None:
    """Enqueue each in its own model's lane."""
    for one in submissions:
        keys = lanes.keys.of_prediction(one.id)
        await scripts.enqueue(
            lanes.redis,
            keys,
            records=[keys.record(one.id.text)],
            bounds=(1_000, 1_000),
            args=one.args(),
        )


async def listed(lanes: LaneServer, *models: str) -> list[str]:
    """All there is, the newest first."""
    listing = Listing(lanes.redis, lanes.keys)
    return names(await listing.older(models or ("echo",), None, most=1_000))


def names(found: list[Listed]) -> list[str]:
    return [one.prediction for one in found]


async def test_what_has_an_id_is_listed_in_the_order_in_which_it_came(lanes: LaneServer) -> None:
    first, second, third = kept(), kept(), kept()
    await enqueue(lanes, first, submission(), second)
    await enqueue(lanes, submission(lane=Lane.BULK), third)
    assert await listed(lanes) == [one.id.text for one in (third, second, first)]


async def test_what_is_known_or_refused_is_not_listed_again(lanes: LaneServer) -> None:
    one, too_many = kept(), kept()
    await enqueue(lanes, one)
    await enqueue(lanes, one, too_many, bounds=(1, 1))
    assert await listed(lanes) == [one.id.text]


async def test_what_joins_another_and_what_the_cache_has_answered_are_listed(
    lanes: LaneServer,
) -> None:
    leader = submission(input=INPUT, identity=b"same")
    joins = submission(input=INPUT, identity=b"same")
    cached = msgspec.structs.replace(kept(), parts=(), hits=b"the reply")
    unseen = msgspec.structs.replace(submission(), parts=(), hits=b"the reply")
    await enqueue(lanes, leader, joins, cached, unseen, cached)
    assert await listed(lanes) == [one.id.text for one in (cached, joins, leader)]


async def test_nothing_is_written_for_what_has_no_id(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission(2, 3, identity=b"same"))
    assert not await lanes.redis.execute_command("EXISTS", lanes.echo.predictions)


async def test_lists_of_models_are_one_from_any_spot_on_in_both_directions(
    lanes: LaneServer,
) -> None:
    models = ("a", "b", "c")
    made = [kept(models[number % 3]) for number in range(30)]
    await put(lanes, *made)
    listing = Listing(lanes.redis, lanes.keys)
    every = await listing.older(models, None, most=1_000)
    assert {one.prediction for one in every} == {one.id.text for one in made}
    assert [one.spot for one in every] == sorted((one.spot for one in every), reverse=True)
    for at, one in enumerate(every):
        older = await listing.older(models, one.spot, most=4)
        assert older == every[at + 1 : at + 5]
        newer = await listing.newer(models, one.spot, most=4)
        assert newer == every[max(at - 4, 0) : at][::-1]
    within = every[10].spot.ms
    assert await listing.older(models, None, since_ms=within, most=1_000) == [
        one for one in every if one.spot.ms >= within
    ]
    assert await listing.newer(models, Spot(0, 0, ""), until_ms=within, most=1_000) == [
        one for one in every[::-1] if one.spot.ms <= within
    ]


async def test_entries_of_the_same_moment_are_told_once_each(lanes: LaneServer) -> None:
    """On servers of a cluster two models may have the same id in their streams."""
    for model in ("a", "b", "c"):
        keys = lanes.keys.of(model)
        for id_ in ("5-0", "5-1"):
            await lanes.redis.execute_command("XADD", keys.predictions, id_, "p", f"{model}{id_}")
    listing = Listing(lanes.redis, lanes.keys)
    models, told = ("c", "a", "b"), list[str]()
    spot: Spot | None = None
    while some := await listing.older(models, spot, most=1):
        told += names(some)
        spot = some[0].spot
    assert told == ["c5-1", "b5-1", "a5-1", "c5-0", "b5-0", "a5-0"]
    back, spot = list[str](), Spot(5, 0, "")
    while some := await listing.newer(models, spot, most=1):
        back += names(some)
        spot = some[0].spot
    assert back == told[::-1]


async def test_models_that_were_ever_swept_are_listed_with_those_of_the_catalog(
    lanes: LaneServer,
) -> None:
    listing = Listing(lanes.redis, lanes.keys)
    assert await listing.models(["b", "a"]) == ["a", "b"]
    await sweeps.models_to_sweep(lanes.redis, lanes.keys, ["c", "b"])
    assert await listing.models(["b", "a"]) == ["a", "b", "c"]


async def test_what_is_no_longer_kept_is_taken_off(lanes: LaneServer) -> None:
    ended = [
        msgspec.structs.replace(kept(), retain_ms=0, created_at_ms=number) for number in range(5)
    ]
    waiting = kept()
    await enqueue(lanes, *ended, waiting)
    worker = await join(lanes)
    for delivery in await read(worker, 3):
        await worker.settle([settlement(delivery)])
    assert await sweeps.unlist_gone(lanes.redis, lanes.echo) == 3
    assert await listed(lanes) == [waiting.id.text, ended[4].id.text, ended[3].id.text]
    await finish(lanes, ended[4].id)
    assert await sweeps.unlist_gone(lanes.redis, lanes.echo) == 1
    assert await sweeps.unlist_gone(lanes.redis, lanes.echo) == 0
    assert await listed(lanes) == [waiting.id.text, ended[3].id.text]
    assert await sweeps.unlist_gone(lanes.redis, lanes.keys.of("nobody")) == 0


async def test_more_than_a_bite_is_taken_off_in_one_sweep(lanes: LaneServer) -> None:
    many = sweeps.LISTED_BITE + 5
    for number in range(many):
        await lanes.redis.execute_command(
            "XADD", lanes.echo.predictions, f"{number + 1}-0", "p", f"gone-{number}"
        )
    assert await sweeps.unlist_gone(lanes.redis, lanes.echo) == many
    assert await listed(lanes) == []


async def test_an_entry_takes_less_than_100_bytes(real_lanes: LaneServer) -> None:
    for _ in range(20):
        await enqueue(real_lanes, *(kept() for _ in range(100)), bounds=(10_000, 10_000))
    keys = real_lanes.echo
    taken = await real_lanes.redis.execute_command(
        "MEMORY", "USAGE", keys.predictions, "SAMPLES", 0
    )
    assert 2_000 * 20 < taken < 2_000 * 100
