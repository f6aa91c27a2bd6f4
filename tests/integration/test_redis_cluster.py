"""A real cluster: commands reach the node of their key, also when that is another than before."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis as redis_sync
from redis.crc import key_slot
from redis.exceptions import NoScriptError, RedisError, ResponseError

from forebay.background.app import create_celery
from forebay.contract.errors import ConfigurationError
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.rows import Options, TextRow
from forebay.gateway.streaming import Stream
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import (
    Commands,
    CopiedWrites,
    NotCopiedError,
    connect,
)
from forebay.runtime.redis.cluster import SlotMap, first_key
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.batching import Batched, batches_running, embedding, jsonl
from tests.fixtures.ends import ends_of
from tests.fixtures.fleet import fleet
from tests.fixtures.gateway import running_gateway
from tests.fixtures.gateway_end import echo_spec, gateway_end, values
from tests.fixtures.generating import MODEL, PARROT, generating
from tests.fixtures.hooked import hooked
from tests.fixtures.servers import Server
from tests.fixtures.shapes import ClusterServers, NodeServer
from tests.fixtures.waiting import PATIENCE_S, eventually

TIMEOUT_S = 5.0
KEYS = [f"{{model{number}:0}}:key" for number in range(30)]
"""Of slots all over the cluster."""


async def answered(commands: Commands, *words: Any) -> Any:
    """An answer, however long it takes; errors on the way are outages, not refusals."""

    async def ask() -> tuple[Any] | None:
        try:
            return (await commands.execute_command(*words),)
        except ResponseError:
            raise
        except (RedisError, OSError):
            return None

    told = await eventually(ask, what=f"an answer to {words}")
    assert told is not None
    return told[0]


async def test_commands_and_scripts_go_to_the_node_of_their_key(cluster: ClusterServers) -> None:
    script = "return redis.call('INCR', KEYS[1])"
    async with ends_of(cluster.url, timeout_s=TIMEOUT_S) as ends:
        for commands in ends.both:
            for key in KEYS:
                assert await commands.execute_command("DEL", key) in (0, 1)
                assert await commands.execute_command("EVAL", script, 1, key) == 1
                assert await commands.execute_command("GET", key) == b"1"
            assert await commands.execute_command("PING") == b"PONG"
            assert len(await commands.execute_command("TIME")) == 2
            with pytest.raises(NoScriptError):
                await commands.execute_command("EVALSHA", "0" * 40, 1, KEYS[0])
            with pytest.raises(ResponseError):
                await commands.execute_command("HGET", KEYS[0], "field")
        answers = await asyncio.gather(
            *(commands.execute_command("GET", key) for commands in ends.both for key in KEYS * 3)
        )
        assert set(answers) == {b"1"}

        for key in KEYS:
            assert await asyncio.to_thread(ends.wire.post, "SET", key, "posted")
        for key in KEYS:

            async def posted(key: str = key) -> bool:
                return bool(await ends.client.execute_command("GET", key) == b"posted")

            await eventually(posted)
    assert len({cluster.owner(key).port for key in KEYS}) == 3


async def test_a_slot_may_move_while_clients_use_it(cluster: ClusterServers) -> None:
    key = KEYS[0]
    slot = key_slot(key.encode())
    source = cluster.owner(key)
    target = next(node for node in cluster.nodes[:3] if node is not source)
    async with ends_of(cluster.url, timeout_s=TIMEOUT_S) as ends:
        for commands in ends.both:
            await commands.execute_command("SET", key, "before")
        assert ends.wire.post("SET", key, "before")
        source_id, target_id = (node.ask("CLUSTER", "MYID") for node in (source, target))
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
        for commands in ends.both:
            assert await commands.execute_command("GET", key) == b"before"
        together = await ends.channel.execute_together(("GET", key), ("APPEND", key, "!"))
        assert together == [b"before", 7]
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        for commands in ends.both:
            assert await answered(commands, "GET", key) == b"before!"

        async def posted() -> bool:
            await asyncio.to_thread(ends.wire.post, "SET", key, "after")
            return bool(await answered(ends.client, "GET", key) == b"after")

        await eventually(posted)


def kill(node: NodeServer, cluster: ClusterServers) -> None:
    node.kill()


def pause(node: NodeServer, cluster: ClusterServers) -> None:
    node.pause()


def demote(node: NodeServer, cluster: ClusterServers) -> None:
    cluster.replica_of(node).ask("CLUSTER", "FAILOVER")


@pytest.mark.slow
@pytest.mark.parametrize("fate", [kill, pause, demote])
async def test_whatever_becomes_of_a_primary_its_replica_is_found(
    cluster: ClusterServers, keys: Keys, fate: Any
) -> None:
    key = keys.of("echo").demand
    before = cluster.owner(key)
    async with (
        ends_of(cluster.url, timeout_s=TIMEOUT_S) as ends,
        gateway_end(cluster.url, keys, timeout_s=TIMEOUT_S) as gateway,
        answering(cluster.url, keys, "echo"),
    ):
        for commands in ends.both:
            await commands.execute_command("SET", f"{key}:mine", "before")
        assert await asyncio.to_thread(ends.wire.post, "SET", f"{key}:posted", "before")
        assert len(await gateway.ask(values(b"1"))) == 1
        fate(before, cluster)
        replica = cluster.replica_of(before)
        await eventually(
            lambda: all(
                replica.port in [ports[0] for ports in cluster.owners(node)]
                for node in cluster.nodes
                if node is not before
            ),
        )
        for commands in ends.both:
            assert await answered(commands, "SET", f"{key}:mine", "after") == b"OK"

        async def posted() -> bool:
            await asyncio.to_thread(ends.wire.post, "SET", f"{key}:posted", "after")
            return bool(await answered(ends.client, "GET", f"{key}:posted") == b"after")

        await eventually(posted)

        async def goes_on() -> bool:
            try:
                return len(await gateway.ask(values(b"2"))) == 1
            except Exception:
                return False

        await eventually(goes_on)


async def test_a_write_counts_only_once_the_replica_of_its_node_has_it(
    cluster: ClusterServers,
) -> None:
    async with ends_of(cluster.url, timeout_s=TIMEOUT_S) as ends:
        copied = CopiedWrites(ends.channel, ("HINCRBY", "{model0:0}:mark", "field", 0))
        assert await copied.execute_command("SET", KEYS[0], 1) == b"OK"
        cluster.replica_of(cluster.owner(KEYS[0])).pause()
        with pytest.raises(NotCopiedError):
            await copied.execute_command("SET", KEYS[0], 2)


async def test_a_text_is_read_while_it_grows_at_every_gateway(
    cluster: ClusterServers, keys: Keys
) -> None:
    settings = Settings(redis_url=cluster.url, key_prefix=keys.prefix)
    prompt = " ".join(map(str, range(60)))
    model = EchoGenerator(GenerationTable(tokens_per_s=50))
    async with (
        running_gateway(settings, catalog=PARROT) as here,
        running_gateway(settings, catalog=PARROT) as there,
        generating(cluster.url, keys, model),
    ):
        dispatch = here.app.dispatch
        spec = dispatch.registry.models[MODEL]
        stream = await dispatch.stream(
            spec, [TextRow(prompt)], options=Options(sampling=Sampling(temperature=0))
        )
        first = await anext(stream)
        again = await there.app.dispatch.resume(stream.id.text, after=first.sequence)

        async def rest(of: Stream) -> str:
            with contextlib.closing(of):
                return "".join([chunk.text async for chunk in of])

        await dispatch._streams._readers.renew()
        texts = list(await asyncio.gather(rest(stream), rest(again)))
        assert texts == [prompt.removeprefix(first.text)] * 2
        assert stream.outcome is not None
        assert again.outcome == stream.outcome


async def test_a_list_of_predictions_is_of_models_all_over_the_cluster(
    cluster: ClusterServers, key_prefix: str
) -> None:
    settings = Settings(redis_url=cluster.url, key_prefix=key_prefix)
    names = [f"model{number}" for number in range(8)]
    catalog = Catalog({name: echo_spec(name) for name in names})
    async with (
        running_gateway(settings, catalog=catalog) as running,
        httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client,
    ):
        made = []
        for name in names * 3:
            body = {"version": name, "input": {"value": name}}
            made.append((await client.post("/v1/predictions", json=body)).json()["id"])
        told = (await client.get("/v1/predictions")).json()
    assert sorted(one["id"] for one in told["results"]) == sorted(made)
    assert told["next"] is None


@pytest.fixture
def broker(private_server: Server) -> str:
    return private_server.url


async def test_a_batch_runs_on_a_cluster(
    cluster: ClusterServers, keys: Keys, key_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(redis_url=cluster.url, key_prefix=key_prefix, home=str(tmp_path))
    lines = jsonl(embedding(f"id {number}", f"text {number}") for number in range(100))
    async with (
        connect(cluster.url, timeout_s=TIMEOUT_S) as redis,
        answering(cluster.url, keys, "minilm"),
        batches_running(settings),
    ):
        batched = Batched(settings, redis)
        done = await batched.ended(await batched.make(lines))
    assert done.counts == msgspec.structs.replace(done.counts, total=100, completed=100, failed=0)
    assert len(batched.output(done)) == 100


async def test_every_process_works_on_a_cluster_with_a_broker_beside_it(
    cluster: ClusterServers, broker: str, key_prefix: str, tmp_path: Path
) -> None:
    settings = {
        "key_prefix": key_prefix,
        "redis_url": cluster.url,
        "broker_url": broker,
        "durability": "replicated",
        "egress_loopback": "true",
    }
    with fleet(tmp_path, **settings) as running:
        for verb in (("gateway",), ("worker", "echo"), ("background",), ("background", "--beat")):
            running.start(*verb)
        await running.ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
            for value in range(20):
                body = {"version": "echo", "input": {"value": value}}
                answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
                assert answer.json()["output"] == value
            idle = {"version": "idle", "input": {"value": 1}}
            answer = await client.post("/v1/predictions", json=idle, headers={"Cancel-After": "5s"})
            waiting = f"/v1/predictions/{answer.json()['id']}"

            async def ended() -> bool:
                return bool((await client.get(waiting)).json()["completed_at"])

            await eventually(ended, what=lambda: running.said)
            async with hooked() as receiver:
                hook = {**body, "webhook": receiver.url("/")}
                assert (await client.post("/v1/predictions", json=hook)).status_code == 201
                await eventually(lambda: len(receiver.heard) == 3, what=lambda: running.said)
        assert running.stop() == [0, 0, 0, 0]
    with redis_sync.Redis.from_url(broker) as client:
        left = [key for key in client.scan_iter() if b":celery:" not in key]
        assert left == []


def test_celery_on_a_cluster_is_an_error_that_says_what_to_set() -> None:
    settings = Settings(redis_url="redis+cluster://h:1,i:2")
    with pytest.raises(ConfigurationError, match="FOREBAY_BROKER_URL"):
        create_celery(settings, Catalog({"echo": echo_spec()}))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), b"a"),
        (("SET", b"a", 1), b"a"),
        (("EVALSHA", "sha", 2, "a", "b"), b"a"),
        (("XGROUP", "CREATE", "a", "g", "0"), b"a"),
        (("XINFO", "CONSUMERS", "a", "g"), b"a"),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "a", ">"), b"a"),
        (("PING",), None),
        (("TIME",), None),
    ],
)
def test_the_first_key_of_a_command_says_where_it_goes(
    command: tuple[Any, ...], key: bytes | None
) -> None:
    assert first_key(command) == key


def test_a_node_that_does_not_know_its_own_address_is_where_it_was_asked() -> None:
    told = [[0, 8_000, [b"", 1, b"id"]], [8_001, 16_383, [b"other", 2, b"id"], [b"x", 3, b"id"]]]
    slots = SlotMap(told, asked="me")
    assert slots.primaries == {("me", 1), ("other", 2)}
    assert SlotMap([]).node(b"key") is None
