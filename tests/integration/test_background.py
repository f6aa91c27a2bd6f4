"""The background on a real server: a Celery worker and beat, each the process that users run."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from forebay.background.app import create_celery
from forebay.contract.files import Purpose, Terms
from forebay.contract.prediction import Lane, Status
from forebay.lanes.keys import GROUP, Keys
from forebay.lanes.replies import Waiter
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from forebay.storage.file_records import Files
from tests.fixtures.gateway_end import gateway_end, values
from tests.fixtures.servers import TIMEOUT_S, Server, new_prefix
from tests.fixtures.waiting import PATIENCE_S, eventually, eventually_sync

LEASE_S = 600.0
CATALOG = '[models.{}]\ntask = "echo"\nbackend = "echo"\n'


class Background:
    """Worker and beat as processes, and what they said."""

    def __init__(self, folder: Path, url: str, prefix: str, redis_timeout_s: float) -> None:
        self.home = folder / "home"
        self.url = url
        self.keys = Keys(prefix)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._beats = 0
        self._folder = folder
        self.serve("echo")
        self.env = {
            **{name: value for name, value in os.environ.items() if "FOREBAY" not in name},
            "FOREBAY_HOME": str(self.home),
            "FOREBAY_MODELS_FILE": str(folder / "models.toml"),
            "FOREBAY_REDIS_URL": url,
            "FOREBAY_KEY_PREFIX": prefix,
            "FOREBAY_SWEEP_S": "0.1",
            "FOREBAY_RETENTION_S": "0.1",
            "FOREBAY_PRESENCE_S": "0.1",
            "FOREBAY_LEASE_S": str(LEASE_S),
            "FOREBAY_REDIS_TIMEOUT_S": str(redis_timeout_s),
        }

    def serve(self, model: str) -> None:
        """Write a catalog with this one model; what starts from now on reads it."""
        (self._folder / "models.toml").write_text(CATALOG.format(model))

    def start(self, *names: str) -> None:
        """Start these."""
        for name in names:
            beat = ["--beat"] if name == "beat" else []
            self._beats += len(beat)
            with self._log(name).open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "forebay.cli", "background", *beat],
                    env=self.env,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def said(self, name: str) -> str:
        """All output of one so far."""
        return self._log(name).read_text()

    def wait_until_said(self, words: str) -> None:
        """Wait until every process has said this."""
        eventually_sync(
            lambda: all(words in self.said(name) for name in self.processes),
            what=f"all say {words!r}",
        )

    def stop(self) -> dict[str, int]:
        """Ask both to end, the beat not before it can hear of it; their exit codes."""
        if "beat" in self.processes:
            eventually_sync(
                lambda: self.said("beat").count("scheduling ") >= self._beats, what="the beat runs"
            )
        for process in self.processes.values():
            process.terminate()
        return {name: process.wait(PATIENCE_S) for name, process in self.processes.items()}

    def kill(self) -> None:
        """End what is left."""
        for process in self.processes.values():
            process.kill()
            process.wait(PATIENCE_S)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


Start = Callable[..., Background]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the shared server."""
    async with connect(redis_url, timeout_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
async def private_redis(private_server: Server) -> AsyncIterator[Redis]:
    """A client of the private server."""
    async with connect(private_server.url, timeout_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Start]:
    """Starts a background on a server, under a prefix; ends it after the test."""
    started: list[Background] = []

    def start(url: str, prefix: str, *, redis_timeout_s: float = 5.0) -> Background:
        one = Background(tmp_path, url, prefix, redis_timeout_s)
        started.append(one)
        one.start("worker", "beat")
        return one

    yield start
    for one in started:
        one.kill()


async def run(redis: Redis, *words: Any) -> Any:
    """A command's raw answer."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("url", "database", "tls"),
    [
        ("redis://me:p%40ss@host:1/2", "2", False),
        ("rediss://host:1/2", "2", True),
        ("unix:///run/redis.sock?db=3", None, False),
    ],
)
def test_any_redis_url_will_do(url: str, database: str | None, tls: bool) -> None:
    app = create_celery(Settings(redis_url=url), Catalog({}))
    connection = app.connection_for_write()
    assert bool(connection.ssl) is tls
    if database is None:
        assert connection.hostname == "socket:///run/redis.sock?virtual_host=3"
    else:
        assert (connection.hostname, connection.virtual_host) == ("host", database)
    assert connection.transport_cls == "forebay-redis"
    assert connection.password in (None, "p@ss")


def test_sentinels_are_told_to_celery_with_what_they_and_their_servers_ask_for() -> None:
    url = "rediss+sentinel://me:p%40ss@one:1,two:2/the-service/4?sentinel_password=other"
    app = create_celery(Settings(redis_url=url), Catalog({}))
    connection = app.connection_for_write()
    assert connection.transport_cls == "forebay-sentinel"
    assert connection.alt == ["sentinel://me:p%40ss@one:1/4", "sentinel://me:p%40ss@two:2/4"]
    assert connection.ssl == {"ssl_cert_reqs": "required"}
    told: Any = connection.transport_options
    assert told["master_name"] == "the-service"
    assert told["sentinel_kwargs"]["password"] == "other"
    assert told["sentinel_kwargs"]["ssl"] is True


async def ending(waiter: Waiter) -> Status:
    """How a prediction ends, which may take an outage's length."""
    async with asyncio.timeout(PATIENCE_S):
        return (await waiter.future)[0].status


async def test_time_does_its_work_on_lanes_and_files(
    background: Start, redis: Redis, redis_url: str, key_prefix: str
) -> None:
    running = background(redis_url, key_prefix)
    keys = running.keys.of("echo")
    now_ms = int(time.time() * 1000)
    await run(redis, "XADD", keys.dead, "1-1", "reason", "long ago")
    await run(redis, "XADD", keys.dead, f"{now_ms}-1", "reason", "just now")
    terms = Terms(filename="lines.jsonl", purpose=Purpose.BATCH)
    files = Files(str(running.home / "files"), retention_s=1e9)
    old = Files(str(running.home / "files"), retention_s=60, now=lambda: 0.0).put([b"x"], terms)
    new = files.put([b"x"], terms)

    async with gateway_end(redis_url, running.keys) as gateway:
        # Nobody works on this lane.
        waiter = gateway.send(values(b"1"), deadline_ms=1)
        assert await ending(waiter) is Status.EXPIRED

        # A worker that reads and is never seen again.
        gateway.send(values(b"1"), lane=Lane.BULK)
        lane = keys.lane(Lane.BULK)
        await eventually(lambda: run(redis, "XLEN", lane), what="the entry is there")
        await run(redis, "XGROUP", "CREATE", lane, GROUP, 0)
        await run(redis, "XREADGROUP", "GROUP", GROUP, "ghost", "STREAMS", lane, ">")

        async def lapsed() -> Any:
            idle_ms = int(LEASE_S * 1000)
            return await run(redis, "XPENDING", lane, GROUP, "IDLE", idle_ms, "-", "+", 9)

        await eventually(lapsed, what="the ghost's lease has lapsed")

    async def dead() -> Any:
        left = await run(redis, "XRANGE", keys.dead, "-", "+")
        return len(left) == 1 and left[0][0] == b"%d-1" % now_ms

    await eventually(dead, what="the old dead letter is gone, the new one is not")
    await eventually(
        lambda: old.id not in files.contents.names(), what="the old file is gone, whole"
    )
    assert files.get(new.id) == new

    assert running.stop() == {"worker": 0, "beat": 0}
    for name in running.processes:
        assert "Traceback" not in running.said(name)
        assert all(f" {name_of(name)}: " in line for line in running.said(name).splitlines())


async def test_a_model_taken_out_of_the_catalog_leaves_nothing_that_waits_for_ever(
    background: Start, redis: Redis, redis_url: str, key_prefix: str
) -> None:
    running = background(redis_url, key_prefix)
    keys = running.keys.of("echo")

    async def swept() -> bool:
        return bool(await run(redis, "SISMEMBER", running.keys.models, "echo"))

    await eventually(swept, what="the model has been swept")
    assert running.stop() == {"worker": 0, "beat": 0}
    running.serve("another")

    async with gateway_end(redis_url, running.keys) as gateway:
        waiter = gateway.send(values(b"1"), deadline_ms=1, retain_ms=3_000)
        await eventually(lambda: waiter.enqueued, what="the prediction is accepted")
        await run(redis, "XADD", keys.dead, "1-1", "reason", "long ago")
        accepted = await gateway.records.prediction(waiter.id)
        assert accepted is not None
        assert accepted.status is Status.STARTING

        running.start("worker", "beat")
        assert await ending(waiter) is Status.EXPIRED
        polled = await gateway.records.prediction(waiter.id)
        assert polled is not None
        assert polled.status is Status.EXPIRED

        async def gone() -> bool:
            left = await run(redis, "EXISTS", keys.record(waiter.id.text))
            return not left and not await run(redis, "XLEN", keys.dead)

        await eventually(gone, what="its record and its dead letter are gone")
    assert running.stop() == {"worker": 0, "beat": 0}


def name_of(process: str) -> str:
    """How a process calls itself in its log."""
    return {"worker": "background", "beat": "beat"}[process]


async def test_celery_keeps_to_its_own_keys_and_piles_up_nothing(
    background: Start, private_server: Server, private_redis: Redis
) -> None:
    prefix = new_prefix()
    running = background(private_server.url, prefix)
    redis = private_redis

    async def sweeps() -> int:
        told = (await run(redis, "INFO", "commandstats")).decode()
        found = re.search(r"cmdstat_zrangebyscore:calls=(\d+)", told)
        return int(found[1]) if found else 0

    await eventually(sweeps, what="a sweep has run")
    names = set(await run(redis, "KEYS", "*")) - {running.keys.models.encode()}
    assert names
    assert all(name.startswith(b"%b:celery:" % prefix.encode()) for name in names), names

    # While no worker reads, messages pile up, and expire.
    running.processes["worker"].terminate()
    assert running.processes["worker"].wait(PATIENCE_S) == 0
    queue = f"{prefix}:celery:background.sweeps"

    async def unread() -> int:
        return int(await run(redis, "LLEN", queue))

    async def piled_up() -> bool:
        return await unread() >= 5

    await eventually(piled_up, what="messages have piled up")
    assert running.stop()["beat"] == 0
    before = await sweeps()
    running.start("worker")

    async def emptied() -> bool:
        return await unread() == 0

    await eventually(emptied, what="they are gone")
    assert running.stop()["worker"] == 0
    assert await sweeps() == before, "what had expired was done all the same"


async def test_an_absent_redis_is_waited_for(background: Start, private_server: Server) -> None:
    prefix = new_prefix()
    private_server.kill()
    running = background(private_server.url, prefix)
    running.wait_until_said("refused")
    private_server.start()
    for outage in range(4):
        if outage:
            private_server.restart()
        async with gateway_end(private_server.url, running.keys) as gateway:
            waiter = gateway.send(values(b"1"), deadline_ms=1)
            assert await ending(waiter) is Status.EXPIRED
    assert {name: process.poll() for name, process in running.processes.items()} == {
        "worker": None,
        "beat": None,
    }
    assert running.stop() == {"worker": 0, "beat": 0}


async def test_a_redis_that_hangs_is_waited_for(background: Start, private_server: Server) -> None:
    running = background(private_server.url, new_prefix(), redis_timeout_s=1.0)
    async with gateway_end(private_server.url, running.keys) as gateway:
        assert await ending(gateway.send(values(b"1"), deadline_ms=1)) is Status.EXPIRED
        private_server.pause()
        try:
            # Blocking: the client of this test is to be silent meanwhile.
            eventually_sync(lambda: "imeout" in running.said("beat"))
        finally:
            private_server.resume()
    async with gateway_end(private_server.url, running.keys) as gateway:
        assert await ending(gateway.send(values(b"1"), deadline_ms=1)) is Status.EXPIRED
    assert running.stop() == {"worker": 0, "beat": 0}


async def test_sigterm_ends_processes_that_wait_for_redis(
    background: Start, private_server: Server
) -> None:
    private_server.kill()
    running = background(private_server.url, new_prefix())
    running.wait_until_said("refused")
    assert running.stop() == {"worker": 0, "beat": 0}


BEATS = """
import os, sys
from pathlib import Path

import kombu.transport.redis  # else each child would import it anew
from celery import signals

from forebay.background.processes import run_beat
from forebay.runtime import catalog, settings
from forebay.runtime.telemetry import setup_logging

configured = settings.load().settings
setup_logging(configured, "beat")
models = catalog.read(Path(configured.models_file))
pids = []


# A clock imports much until then, and is not to be told to end in the midst of that.
@signals.after_task_publish.connect
def tell(**_):
    signals.after_task_publish.disconnect(tell)
    os.write(2, b"has sent one\\n")


for _ in range(10):
    pid = os.fork()
    if not pid:
        run_beat(configured, models)
        sys.exit(0)
    pids.append(pid)
print(*pids, flush=True)
print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), flush=True)
"""
"""Ten clocks that are told to end, forked so that they import Celery once."""


def test_a_clock_that_is_told_to_end_in_the_midst_of_a_send_ends_in_good_order(
    tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    background = Background(tmp_path, redis_url, key_prefix, redis_timeout_s=2.0)
    log, chance = tmp_path / "beats.log", random.Random(4)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", BEATS],
            # As often as it can: whenever the word comes, one is being sent.
            env={**background.env, "FOREBAY_SWEEP_S": "0.001"},
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
    with process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 10, log.read_text()
        try:
            eventually_sync(
                lambda: log.read_text().count("has sent one") == len(pids),
                what=lambda: f"all of them send: {log.read_text()}",
            )
            for pid in pids:
                time.sleep(chance.uniform(0, 0.1))
                os.kill(pid, signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        assert process.stdout.readline().split() == ["0"] * len(pids), log.read_text()
    assert "beat raised exception" not in log.read_text()
