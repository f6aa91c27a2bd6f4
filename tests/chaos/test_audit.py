"""The auditor finds what is not as it must be: here it was tampered with."""

import pytest

from forebay.contract.messages import Reply, decode_reply, encode
from forebay.lanes.keys import Keys
from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome
from tests.chaos.scene import Gateway, Scene, scene
from tests.fixtures.waiting import eventually

COUNT = 12


async def audited(stage: Scene, load: Load, gateway: Gateway) -> Outcome:
    outcome = Outcome()
    await stage.audit.tally(load, gateway.http, outcome)
    return outcome


async def reply_of(stage: Scene, id_: str) -> Reply:
    client = stage.audit.client
    return decode_reply(await client.execute_command("HGET", stage.audit.keys.record(id_), "o0"))


@pytest.mark.slow
async def test_the_audit_sees_each_thing_that_is_wrong() -> None:
    async with scene() as stage:
        gateway = await stage.gateway()
        await stage.odd_worker()
        load = Load([gateway.http], waiting_every=2)
        await load.feed(COUNT, 0.1)
        await stage.drained(Outcome(), list(load.values))
        outcome = await audited(stage, load, gateway)
        assert outcome.broken == []
        assert (outcome.tally.accepted, outcome.tally.succeeded) == (COUNT, COUNT)
        assert (outcome.tally.failed, outcome.tally.lost, outcome.tally.twice) == (0, 0, 0)
        assert (outcome.tally.rerun, len(load.answers)) == (0, COUNT // 2)

        redis, keys = stage.audit.client, stage.audit.keys
        first, second, third, *_ = (id_ for id_ in load.values if id_ not in load.answers)

        await redis.execute_command("HSET", keys.record(first), "a0", 2)
        assert (await audited(stage, load, gateway)).tally.rerun == 1

        # One more announcement of a result; two are two.
        announced = b"\x91" + encode(await reply_of(stage, first))
        channel = Keys(stage.settings.key_prefix).reply_channel("somebody")
        for _ in range(2):
            assert await redis.execute_command("PUBLISH", channel, announced) == 1

        async def is_seen() -> bool:
            return (await audited(stage, load, gateway)).tally.twice == 1

        await eventually(is_seen, what="a result announced twice")

        # It ended at another time than it had ended at.
        await redis.execute_command("HSET", keys.record(second), "ft", 1)
        assert (await audited(stage, load, gateway)).tally.twice == 2

        # One output is another's.
        other = await redis.execute_command("HGET", keys.record(first), "o0")
        await redis.execute_command("HSET", keys.record(third), "o0", other)
        outcome = await audited(stage, load, gateway)
        assert (outcome.tally.succeeded, outcome.tally.failed) == (COUNT - 1, 1)
        assert outcome.tally.twice == 3
        assert "1 outputs are another's" in outcome.broken

        # A client was told another result than is shown.
        answered = next(iter(load.answers))
        await redis.execute_command("HSET", keys.record(answered), "o0", other)
        outcome = await audited(stage, load, gateway)
        assert (outcome.tally.failed, outcome.tally.twice) == (2, 5)

        await redis.execute_command("HINCRBY", keys.demand, "bulk", 3)
        assert any("at 3 rows" in what for what in (await audited(stage, load, gateway)).broken)

        # Gone, and so counted once more than there are.
        await redis.execute_command("DEL", keys.record(first))
        outcome = await audited(stage, load, gateway)
        assert (outcome.tally.lost, outcome.tally.twice) == (1, 6)
        assert "1 accepted predictions are lost" in outcome.broken
