"""A batch while everything is killed in turn: each line of it has one line of output."""

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.contract.batches import Batch, BatchStatus
from forebay.contract.errors import NotFound
from forebay.runtime.redis import connect
from tests.chaos.outcome import Outcome, Scenario, Tally
from tests.chaos.scenarios.servers import DURABLE
from tests.chaos.scene import Catalog, scene
from tests.fixtures.batching import Batched, jsonl, line
from tests.fixtures.shapes import running
from tests.fixtures.waiting import eventually

COMPLETIONS = "/v1/completions"

PARROT = Catalog(
    "parrot",
    """
[models.parrot]
task = "generation"
backend = "echo"

[models.parrot.generation]
slots = 64
tokens_per_s = 20
""",
)

REST = " over the weir and down the race to the mill"
"""Of each prompt: half a second's words."""

WITHIN_S = 300.0


async def killed(short: bool) -> Outcome:
    """Kill gateway, worker, background, beat and server in turn until a batch has ended."""
    count, every_s = (3_000, 0.7) if short else (20_000, 3.0)
    outcome = Outcome()
    with running(DURABLE) as server:
        async with scene(servers=server, catalog=PARROT, lease_s=2.0, presence_s=1.0) as stage:
            gateway = await stage.gateway()
            workers = [await stage.worker() for _ in range(2)]
            background, beat = stage.background()
            await stage.at_work(background)
            kills: Counter[str] = Counter()

            def restart_server() -> None:
                server.kill()
                server.start()

            victims: tuple[tuple[str, Callable[[], None]], ...] = (
                ("background", background.restart),
                ("worker", workers[0].restart),
                ("server", restart_server),
                ("gateway", gateway.program.restart),
                ("beat", beat.restart),
            )

            over = False

            async def kill() -> None:
                for name, restart in itertools.cycle(victims):
                    await asyncio.sleep(every_s)
                    if over:
                        return
                    await asyncio.to_thread(restart)
                    kills[name] += 1
                    if name == "background":
                        await stage.at_work(background)

            redis: Redis = connect(stage.settings.redis_url, timeout_s=2.0)
            try:
                batched = Batched(stage.settings, redis)
                words = [f"word-{number}" for number in range(count)]
                made = await batched.make(
                    jsonl(
                        line(word, {"model": "parrot", "prompt": word + REST}, url=COMPLETIONS)
                        for word in words
                    ),
                    endpoint=COMPLETIONS,
                )
                # Acknowledged a second ago it is on the server's disk.
                await asyncio.sleep(1.5)
                async with asyncio.TaskGroup() as group:
                    group.create_task(kill())
                    await eventually(
                        lambda: _has_ended(batched, made),
                        within_s=WITHIN_S,
                        what=lambda: f"its end, after {kills}; {background.said}",
                    )
                    over = True
                done = await batched.ended(made)
                _count(outcome, batched, done, words)
            finally:
                await redis.aclose()
            outcome.promise(len(kills) == len(victims), f"only {', '.join(kills)} were killed")
            told = ", ".join(f"{name} {times}" for name, times in kills.items())
            outcome.done = f"{count:,} lines; killed: {told}"
    return outcome


async def _has_ended(batched: Batched, made: Batch) -> bool:
    with contextlib.suppress(RedisError, OSError, NotFound):
        return (await batched.batches.get(made.id)).status.terminal
    return False


def _count(outcome: Outcome, batched: Batched, done: Batch, words: list[str]) -> None:
    answers, errors = batched.output(done), batched.errors(done)
    seen = Counter(one["custom_id"] for one in answers + errors)
    right = sum(
        one["response"]["body"]["choices"][0]["text"].strip().startswith(one["custom_id"])
        for one in answers
    )
    twice = sum(times > 1 for times in seen.values())
    lost = len(set(words) - seen.keys())
    outcome.tally = Tally(len(words), right, len(errors), lost, twice)
    outcome.promise(done.status is BatchStatus.COMPLETED, f"it is {done.status.value}")
    outcome.promise(not lost, f"{lost} lines have no line of output")
    outcome.promise(not twice, f"{twice} lines have more than one")
    outcome.promise(not errors, f"{len(errors)} have an error: {json.dumps(errors[:1])[:300]}")
    outcome.promise(right == len(answers), f"{len(answers) - right} have another's answer")
    told = (done.counts.total, done.counts.completed, done.counts.failed)
    outcome.promise(told == (len(words), right, 0), f"the batch counts {told}")


SCENARIOS = (
    Scenario(
        "kill-batch",
        "All killed during a batch",
        "Background, worker, server, gateway and beat are killed in turn while a batch runs: each "
        "of its lines has one line of output.",
        killed,
    ),
)
