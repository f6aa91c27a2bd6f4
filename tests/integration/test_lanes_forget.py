"""Conformance of the lanes, on the fake and on the real server: predictions that are deleted."""

from forebay.contract.prediction import Status
from forebay.lanes.predictions import Records
from tests.fixtures.lanes import enqueue, finish, join, read, settlement, submission
from tests.fixtures.servers import LaneServer


async def kept(lanes: LaneServer) -> list[bytes]:
    """Keys of predictions that are there."""
    found = await lanes.redis.execute_command("KEYS", f"{lanes.echo.base}:*")
    return [key for key in found if b"record:" in key or b"events:" in key or b"out:" in key]


async def test_what_has_ended_is_deleted_with_all_that_is_beside_it(lanes: LaneServer) -> None:
    records, one = Records(lanes.redis, lanes.keys), submission(1, input=b'"secret"')
    await enqueue(lanes, one)
    events = lanes.echo.events(one.id.text)
    await lanes.redis.execute_command("XADD", events, "1-0", "c", "a piece")
    worker = await join(lanes)
    (delivery,) = await read(worker, 10)
    await worker.settle([settlement(delivery)])
    assert len(await kept(lanes)) == 2
    await records.forget(one.id)
    assert await records.record(one.id) is None
    assert await kept(lanes) == []
    await records.forget(one.id)


async def test_what_is_under_way_is_not_deleted(lanes: LaneServer) -> None:
    records, one = Records(lanes.redis, lanes.keys), submission(1, input=b'"secret"')
    await enqueue(lanes, one)
    await records.forget(one.id)
    found = await records.record(one.id)
    assert found is not None
    assert (found.status, found.input) == (Status.STARTING, b'"secret"')


async def test_of_what_others_have_joined_only_the_input_is_deleted(lanes: LaneServer) -> None:
    records = Records(lanes.redis, lanes.keys)
    first, second = (submission(1, input=b'"secret"', identity=b"same") for _ in range(2))
    await enqueue(lanes, first, second)
    await finish(lanes, first.id)
    await records.forget(first.id)
    worker = await join(lanes)
    (delivery,) = await read(worker, 10)
    await worker.settle([settlement(delivery)])
    found, other = await records.record(first.id), await records.record(second.id)
    assert found is not None
    assert other is not None
    assert (found.input, other.input) == (None, b'"secret"')
    assert (found.status, other.status) == (Status.CANCELED, Status.SUCCEEDED)
    # Those that joined go by themselves, and leave the others what they need.
    await records.forget(second.id)
    assert await records.record(second.id) is None
    assert await records.record(first.id) is not None


async def test_many_that_have_ended_are_deleted_at_once_and_others_stay(
    lanes: LaneServer,
) -> None:
    records = Records(lanes.redis, lanes.keys)
    done, joined_to, under_way = submission(1, 1), submission(1, identity=b"same"), submission(1)
    joined, gone = submission(1, identity=b"same"), submission(1)
    await enqueue(lanes, done, joined_to, joined)
    worker = await join(lanes)
    deliveries = await read(worker, 10)
    await finish(lanes, joined_to.id)
    await worker.settle(
        [settlement(one) for one in deliveries if one.prediction != joined_to.id.text]
    )
    await enqueue(lanes, under_way)
    # Outputs too big for a reply lie beside the record.
    for part in range(2):
        beside = lanes.echo.outputs(done.id.text, part, 1)
        await lanes.redis.execute_command("SET", beside, "large")
    every = (done, joined_to, under_way, gone)
    await records.discard([one.id for one in every])
    await records.discard([one.id for one in every])
    found = [await records.record(one.id) for one in (*every, joined)]
    assert [record is not None for record in found] == [False, True, True, False, True]
    assert not [key for key in await kept(lanes) if b"out:" in key]
    await records.discard([])
