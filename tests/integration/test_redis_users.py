"""The shipped users: each process can do its work as its own, and nothing else."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_sync
from redis.exceptions import NoPermissionError

from forebay.lanes import scripts as lanes_scripts
from forebay.records import scripts as records_scripts
from tests.fixtures.fleet import MODELS, fleet
from tests.fixtures.hooked import hooked
from tests.fixtures.shapes import GuardedServer
from tests.fixtures.waiting import PATIENCE_S, eventually

GATEWAY, WORKER, BACKGROUND = "forebay-gateway", "forebay-worker", "forebay-background"
PIPELINE = "forebay-pipeline"
AUTOSCALER = "forebay-autoscaler"

CHAIN = """
[models.chain]
task = "pipeline"
backend = "pipeline"
steps = ["echo", "echo"]

[models.rests]
task = "echo"
backend = "echo"
replicas = { min = 0 }
"""

RUN_BY = {
    "allow": [GATEWAY],
    "api_key": [],
    "attempt": [BACKGROUND],
    "attempted": [BACKGROUND],
    "attend": [GATEWAY, BACKGROUND],
    "batch_add": [GATEWAY],
    "batch_cancel": [GATEWAY],
    "batch_holders": [BACKGROUND],
    "batch_keep": [BACKGROUND],
    "batch_renew": [BACKGROUND],
    "batch_take": [BACKGROUND],
    "batch_turn": [BACKGROUND],
    "beat": [WORKER, PIPELINE],
    "copied": [GATEWAY, BACKGROUND],
    "deliver": [BACKGROUND],
    "discard": [BACKGROUND],
    "enqueue": [GATEWAY, PIPELINE, BACKGROUND],
    "exchange": [],
    "finish": [GATEWAY, BACKGROUND, PIPELINE],
    "follow": [GATEWAY, BACKGROUND],
    "forget": [GATEWAY, BACKGROUND],
    "leave": [WORKER, PIPELINE],
    "letters": [],
    "log": [WORKER, PIPELINE],
    "logs": [WORKER, PIPELINE],
    "outbox": [GATEWAY, WORKER, PIPELINE, BACKGROUND],
    "overdue": [BACKGROUND],
    "read": [WORKER, PIPELINE],
    "reclaim": [WORKER, PIPELINE],
    "redeliver": [],
    "renew": [WORKER, PIPELINE],
    "replies": [WORKER, PIPELINE],
    "settle": [WORKER, PIPELINE],
    "sketch": [WORKER, PIPELINE],
    "tell": [WORKER],
    "tidy": [BACKGROUND],
    "traffic": [],
    "unclaim": [GATEWAY, BACKGROUND],
    "unlist": [BACKGROUND],
    "waiting": [GATEWAY, WORKER, PIPELINE, BACKGROUND],
    "waits": [BACKGROUND],
}
"""Who runs which script."""

CALL = re.compile(r"redis\.call\('(\w+)'(?:, '([A-Z]+)')?")
REFUSED = "(?i)no permission|can't access|ACL failure"
CONTAINERS = {"XGROUP", "XINFO"}


async def test_each_process_does_its_work_as_its_user_and_tries_nothing_it_may_not(
    guarded_server: GuardedServer, key_prefix: str, tmp_path: Path
) -> None:
    with fleet(tmp_path, MODELS + CHAIN, key_prefix=key_prefix, egress_loopback="true") as running:
        for verb, user in (
            (("gateway",), GATEWAY),
            (("worker", "echo"), WORKER),
            (("worker", "chain"), PIPELINE),
            (("background",), BACKGROUND),
            (("background", "--beat"), BACKGROUND),
            (("autoscale", "run"), AUTOSCALER),
        ):
            running.start(*verb, redis_url=guarded_server.url_for(user))
        await running.ready("echo", "chain")
        await eventually(lambda: "telling how many replicas" in running.said)
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
            body = {"version": "echo", "input": {"value": 1}}
            answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
            assert answer.json()["output"] == 1
            body_of_chain = {"version": "chain", "input": {"value": "x" * 100_000}}
            answer = await client.post(
                "/v1/predictions", json=body_of_chain, headers={"Prefer": "wait"}
            )
            assert answer.json()["output"] == body_of_chain["input"]

            lines = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {}}'
            form = {"files": {"file": ("lines", lines)}, "data": {"purpose": "batch"}}
            sent = (await client.post("/v1/files", **form)).json()  # type: ignore[arg-type]
            batch = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
            answer = await client.post("/v1/batches", json={"input_file_id": sent["id"], **batch})
            one = f"/v1/batches/{answer.json()['id']}"

            async def completed() -> bool:
                return bool((await client.get(one)).json()["completed_at"])

            await eventually(completed, what=lambda: running.said)
            assert (await client.get("/v1/batches")).json()["data"][0]["id"] in one
            assert (await client.post(f"{one}/cancel")).status_code == 400
            async with hooked() as receiver:
                hook = {**body, "webhook": receiver.url("/")}
                assert (await client.post("/v1/predictions", json=hook)).status_code == 201
                await eventually(lambda: len(receiver.heard) == 3, what=lambda: running.said)
            assert (await client.get("/v1/webhooks/default/secret")).status_code == 200

            # What no worker takes up is ended by the background.
            idle = {**body, "version": "idle"}
            answer = await client.post("/v1/predictions", json=idle, headers={"Cancel-After": "5s"})
            assert answer.status_code == 201, answer.text
            waiting = f"/v1/predictions/{answer.json()['id']}"

            async def ended() -> bool:
                return bool((await client.get(waiting)).json()["completed_at"])

            await eventually(ended, what=lambda: running.said)
            answer = await client.post("/v1/predictions", json=idle)
            asked = await client.post(f"/v1/predictions/{answer.json()['id']}/cancel")
            assert asked.status_code == 200
            listed = (await client.get("/v1/predictions")).json()["results"]
            assert listed[0]["id"] == answer.json()["id"]
            told: dict[str, Any] = {}

            async def wanted() -> bool:
                told.update((await client.get("/autoscale/rests")).json())
                return bool(told.get("replicas", {}).get("desired") == 1)

            rests = {**body, "version": "rests"}
            assert (await client.post("/v1/predictions", json=rests)).status_code == 201
            await eventually(wanted, what=lambda: f"{told}: {running.said}")
        assert running.stop() == [0, 0, 0, 0, 0, 0]
        assert "NOPERM" not in running.said
    assert guarded_server.operator.acl_log() == []


@pytest.mark.parametrize(
    ("user", "command"),
    [
        (GATEWAY, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "P:{echo:0}:lane:bulk", ">")),
        (GATEWAY, ("GET", "P:celery:queue")),
        (GATEWAY, ("DEL", "P:{echo:0}:demand")),
        (GATEWAY, ("HSET", "P:{keys}:all", "id", "key")),
        (WORKER, ("HGET", "P:{keys}:all", "id")),
        (PIPELINE, ("HMGET", "P:{keys}:all", "id")),
        (BACKGROUND, ("HGETALL", "P:{keys}:all")),
        (WORKER, ("SET", "P:claim:1", "mine")),
        (WORKER, ("HGETALL", "P:{echo:0}:demand")),
        (WORKER, ("LPUSH", "P:celery:queue", "message")),
        (BACKGROUND, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "P:{echo:0}:lane:bulk", ">")),
        (BACKGROUND, ("RPUSH", "P:orders:worker", "unload")),
        (AUTOSCALER, ("SET", "P:{echo:0}:demand", "1")),
        (AUTOSCALER, ("XRANGE", "P:{echo:0}:lane:bulk", "-", "+")),
        *(
            (user, command)
            for user in (GATEWAY, WORKER, PIPELINE, BACKGROUND, AUTOSCALER)
            for command in (
                ("SET", "another:key", "1"),
                ("PUBLISH", "another:channel", "1"),
                ("EVAL", "return redis.call('SET', 'another:key', 1)", "0"),
                ("KEYS", "*"),
                ("FLUSHALL",),
                ("CONFIG", "GET", "*"),
                ("SHUTDOWN",),
                ("CLIENT", "KILL", "TYPE", "normal"),
                ("SCRIPT", "FLUSH"),
                ("ACL", "SETUSER", "me"),
                ("INFO",),
            )
        ),
    ],
)
def test_a_user_is_refused_what_its_process_does_not_need(
    shared_guarded_server: GuardedServer, user: str, command: tuple[str, ...]
) -> None:
    server = shared_guarded_server
    words = [word.replace("P:", f"{server.key_prefix}:") for word in command]
    with redis_sync.Redis.from_url(server.url_for(user)) as client:
        assert client.ping()
        with pytest.raises((NoPermissionError, redis_sync.ResponseError), match=REFUSED):
            client.execute_command(*words)


def test_nobody_gets_in_without_a_password(shared_guarded_server: GuardedServer) -> None:
    with (
        redis_sync.Redis(port=shared_guarded_server.port) as client,
        pytest.raises(redis_sync.AuthenticationError),
    ):
        client.ping()


def test_users_may_run_every_command_of_the_scripts_they_run(
    shared_guarded_server: GuardedServer,
) -> None:
    operator = shared_guarded_server.operator
    found = {
        file.name.removesuffix(".lua"): file
        for room in (lanes_scripts, records_scripts)
        for file in resources.files(room).iterdir()
        if ".lua" in file.name
    }
    assert found.keys() == RUN_BY.keys(), (
        "say in RUN_BY who runs a script, and let them in users.acl"
    )
    refused: list[tuple[str, str, Any]] = []
    for name, users in RUN_BY.items():
        for command, second in CALL.findall(found[name].read_text("utf-8")):
            words = [command, second] if command in CONTAINERS else [command]
            for user in users:
                allowed = _commands_of(operator, user)
                if "|".join(words).lower() not in allowed:
                    refused.append((name, user, words))
    assert refused == []


def _commands_of(operator: redis_sync.Redis, user: str) -> set[str]:
    told: Any = operator.acl_getuser(user)
    words = " ".join([*told["commands"], *map(str, told["selectors"])])
    return {word.removeprefix("+") for word in re.findall(r"[+][a-z|]+", words)}
