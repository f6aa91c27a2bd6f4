"""The primary is killed under load: what was accepted with `durability = replicated` ends."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.fixtures.fleet import fleet
from tests.fixtures.servers import Server
from tests.fixtures.shapes import Group
from tests.fixtures.waiting import PATIENCE_S, eventually

CLIENTS = 8
ENOUGH = 100
"""Predictions before the failover, and after it."""

VERBS = (("gateway",), ("worker", "echo"), ("background",), ("background", "--beat"))


class Load:
    """Clients that send predictions, and don't wait for them, until they are stopped.

    Attributes:
        accepted: what was sent, by the id that came back.
        refused: how many got a 503.
        others: statuses that should not have come.
        stopped: set by who has seen enough.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._next = 0
        self.accepted: dict[str, int] = {}
        self.refused = 0
        self.others: list[int] = []
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._send())

    async def _send(self) -> None:
        while not self.stopped.is_set():
            self._next += 1
            value = self._next
            body = {"version": "echo", "input": {"value": value}}
            answer = await self._client.post("/v1/predictions", json=body)
            if answer.status_code == 201:
                self.accepted[answer.json()["id"]] = value
            elif answer.status_code == 503:
                assert answer.headers["retry-after"]
                self.refused += 1
                await asyncio.sleep(0.05)
            else:
                self.others.append(answer.status_code)


@pytest.mark.slow
async def test_whatever_was_accepted_before_and_during_a_failover_ends_with_its_own_output(
    group: Group, key_prefix: str, tmp_path: Path
) -> None:
    settings = {
        "key_prefix": key_prefix,
        "redis_url": group.url,
        "durability": "replicated",
        "redis_timeout_s": "1",
        "lease_s": "3",
    }
    with fleet(tmp_path, **settings) as running:
        for verb in VERBS:
            running.start(*verb)
        await running.ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
            load = Load(client)
            sending = asyncio.create_task(load.run())
            await accepts(load, ENOUGH, lambda: running.said)
            group.primary.kill()
            await eventually(lambda: load.refused, what="a client notices")
            await accepts(load, len(load.accepted) + ENOUGH, lambda: running.said)
            load.stopped.set()
            await sending
            assert load.others == []

            async def outcome(id_: str) -> tuple[str, object] | None:
                answer = await client.get(f"/v1/predictions/{id_}")
                if answer.status_code == 503:
                    return None
                told = answer.json()
                if answer.status_code == 200 and not told["completed_at"]:
                    return None
                return str(told.get("status", answer.status_code)), told.get("output")

            wrong: dict[str, object] = {}
            for id_, value in load.accepted.items():
                ended = await eventually(functools.partial(outcome, id_))
                if ended != ("succeeded", value):
                    wrong[id_] = ended
            assert wrong == {}
        # The background has found its way, too: what nobody takes up is ended.
        await until_swept(running.url)


async def accepts(load: Load, count: int, said: Callable[[], str]) -> None:
    """Wait until so many have been accepted in all."""
    await eventually(lambda: len(load.accepted) > count, what=said)


async def until_swept(url: str) -> None:
    """Wait until a prediction that no worker takes up is ended by the background."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        body = {"version": "idle", "input": {"value": 1}}
        answer = await client.post("/v1/predictions", json=body, headers={"Cancel-After": "5s"})
        assert answer.status_code == 201, answer.text
        path = f"/v1/predictions/{answer.json()['id']}"

        async def ended() -> bool:
            return bool((await client.get(path)).json()["completed_at"])

        await eventually(ended, what="the background sweeps")


async def test_a_server_whose_memory_is_full_is_a_503_until_it_is_not(
    private_server: Server, key_prefix: str, tmp_path: Path
) -> None:
    with fleet(tmp_path, key_prefix=key_prefix, redis_url=private_server.url) as running:
        for verb in VERBS[:2]:
            running.start(*verb)
        await running.ready()
        body = {"version": "echo", "input": {"value": 1}}
        with private_server._client(private_server.port) as server:
            async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
                server.config_set("maxmemory", 1)
                answer = await client.post("/v1/predictions", json=body)
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                server.config_set("maxmemory", 0)

                async def works() -> bool:
                    told = await client.post(
                        "/v1/predictions", json=body, headers={"Prefer": "wait"}
                    )
                    return told.status_code == 201 and told.json()["output"] == 1

                await eventually(works)
        assert running.stop() == [0, 0]
