"""Texts that are read while they are generated, and everything that can come between."""

import asyncio
import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.readers import SAMPLINGS, Readers, judge
from tests.chaos.scene import Catalog, scene
from tests.fixtures.artifacts import WRITER, tiny_home, tiny_writer
from tests.fixtures.decoders import tokenizer_of_bytes
from tests.fixtures.servers import Server
from tests.fixtures.shapes import running
from tests.fixtures.waiting import eventually

DURABLE = functools.partial(Server, aof=True, fsync="everysec")
"""A server as `durability = disk` has it."""

PROMPTS = ("Over the weir and down the race", "The pool above the mill is still")

LEASE_S = 5.0
"""What a worker was given by a server that was killed before it heard of it, waits for so long."""

PAUSE_S = 3.0
"""How long the server is stopped: longer than it takes to be called away."""


def parameters(number: int, tokens: int) -> dict[str, Any]:
    """What the client of a number asks for: each way to choose tokens in turn."""
    returns = [id_ for token, id_ in tokenizer_of_bytes().get_vocab().items() if "\u010d" in token]
    return {
        **SAMPLINGS[number // 2 % len(SAMPLINGS)],
        "max_tokens": tokens,
        "ignore_eos": True,
        # Events of the job API can't carry a carriage return.
        "logit_bias": {str(id_): -100 for id_ in returns},
    }


async def writer() -> Catalog:
    """A tiny model that really generates, built if it isn't yet."""
    return Catalog(WRITER, await asyncio.to_thread(tiny_writer), tiny_home())


async def cut(short: bool) -> Outcome:
    """Cut texts at any byte, and read on at another gateway."""
    count, tokens = (20, 100) if short else (100, 400)
    outcome = Outcome()
    async with scene(catalog=await writer()) as stage:
        gateways = [await stage.gateway() for _ in range(2)]
        for _ in range(2):
            await stage.worker()
        chance = random.Random()
        readers = Readers(
            [gateway.http for gateway in gateways],
            WRITER,
            cut=lambda: chance.randrange(1, 15 * tokens),
        )
        async with asyncio.TaskGroup() as clients:
            for number in range(count):
                prompt = PROMPTS[number // 6 % len(PROMPTS)]
                clients.create_task(readers.read(prompt, **parameters(number, tokens)))
        await judge(readers, stage, outcome)
        await stage.audit.emptied(outcome)
        cuts = sum(one.client.cuts for one in readers.wanted if one.client is not None)
        outcome.promise(cuts >= count, f"only {cuts} connections were cut")
        outcome.all_succeed(count)
        outcome.done = f"{count} texts of {tokens} tokens at two gateways; {cuts} cuts"
    return outcome


async def broken(short: bool) -> Outcome:
    """End workers, gateways and the server, and stop it, while texts grow."""
    at_once, tokens = (6, 300) if short else (12, 1_000)
    outcome = Outcome()
    catalog = await writer()
    with running(DURABLE) as server:
        async with scene(servers=server, catalog=catalog, drain_s=1, lease_s=LEASE_S) as stage:
            gateways = [await stage.gateway() for _ in range(2)]
            workers = [await stage.worker() for _ in range(2)]
            readers = Readers([gateway.http for gateway in gateways], WRITER)
            over = asyncio.Event()
            growing = functools.partial(_growing, readers)

            async def keep_asking() -> None:
                while not over.is_set():
                    number = len(readers.wanted)
                    prompt = PROMPTS[number // 6 % len(PROMPTS)]
                    await readers.read(prompt, **parameters(number, tokens))

            async def restart(target: int, *, kill: bool, kind: str) -> None:
                if kind == "gateway":
                    await gateways[1 - target].ready()
                    program = gateways[target].program
                else:
                    await stage.present(workers[1 - target])
                    program = workers[target]
                if kill:
                    program.kill()
                else:
                    await stage.exits(program, outcome)
                program.start()

            async def restart_server() -> None:
                await asyncio.to_thread(server.restart)

            async def pause_server() -> None:
                server.pause()
                await asyncio.sleep(PAUSE_S)
                server.resume()

            acts: list[tuple[str, Callable[[], Awaitable[None]]]] = [
                ("workers killed", lambda: restart(0, kill=True, kind="worker")),
                ("gateways killed", lambda: restart(0, kill=True, kind="gateway")),
                ("servers killed", restart_server),
                ("workers told to end", lambda: restart(1, kill=False, kind="worker")),
                ("servers stopped", pause_server),
                ("gateways told to end", lambda: restart(1, kill=False, kind="gateway")),
            ]
            played: Counter[str] = Counter()
            async with asyncio.TaskGroup() as clients:
                for _ in range(at_once):
                    clients.create_task(keep_asking())
                for what, act in acts:
                    await eventually(growing, what="texts grow")
                    await act()
                    played[what] += 1
                over.set()
            for gateway in gateways:
                await gateway.ready()
            await judge(readers, stage, outcome)
            # What a gateway took with it when it was killed ends once its readers' lease is over.
            await stage.audit.comes_to_rest()
            await stage.audit.emptied(outcome)
            honest = [one.error for one in readers.wanted if one.error]
            outcome.promise(not honest, f"{len(honest)} texts failed, the first of {honest[:1]}")
            told = ", ".join(f"{times} {what}" for what, times in played.items())
            outcome.done = f"{len(readers.wanted)} texts of {tokens} tokens; {told}"
    return outcome


def _growing(readers: Readers) -> bool:
    """Whether some texts are in the midst of it."""
    return sum(bool(one.text) and not one.client.done for one in readers.wanted if one.client) > 2


SCENARIOS = (
    Scenario(
        "cut-streams",
        "Streams cut",
        "Texts are cut at any byte and read on at another gateway, after the last whole event: "
        "each comes out as it does uncut, and no event comes twice.",
        cut,
    ),
    Scenario(
        "break-streams",
        "Streams broken",
        "Workers and gateways are killed and told to end, and the server is killed, and stopped "
        f"for {PAUSE_S:g} s, while texts grow: greedy and seeded ones go on bit for bit, and those "
        "drawn by chance don't contradict what was read.",
        broken,
    ),
)
