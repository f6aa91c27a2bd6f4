"""Several gateways on one port tell what all of them have counted, whichever is asked."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from tests.fixtures.answering import answering
from tests.fixtures.waiting import PATIENCE_S, eventually

MODELS = '[models.echo]\ntask = "echo"\nbackend = "echo"\n[models.idle]\ntask = "echo"\n'
MODELS += 'backend = "echo"\n'
BODY = {"version": "echo", "input": {"value": 1}}
WAIT = {"Prefer": "wait"}
MADE = ("http_server_request_duration_seconds_count", "replicate", "201")
ACTIVE = ("http_server_active_requests", "replicate")
SUCCEEDED = ("forebay_prediction_duration_seconds_count", "realtime", "echo", "succeeded")

Counts = dict[tuple[str, ...], float]


class Group:
    """Gateways on one port, each a process.

    Attributes:
        url: of them all.
        counts: the folder where they count.
        processes: by their ids.
    """

    def __init__(self, folder: Path, redis_url: str, key_prefix: str) -> None:
        self._folder, port = folder, free_port()
        self.counts = folder / "counts"
        self.url = f"http://127.0.0.1:{port}"
        (folder / "models.toml").write_text(MODELS)
        self._env = {name: value for name, value in os.environ.items() if "FOREBAY" not in name} | {
            "FOREBAY_HOME": str(folder),
            "FOREBAY_REDIS_URL": redis_url,
            "FOREBAY_KEY_PREFIX": key_prefix,
            "FOREBAY_MODELS_FILE": str(folder / "models.toml"),
            "FOREBAY_PORT": str(port),
            "FOREBAY_REUSE_PORT": "true",
            "FOREBAY_COUNTS_DIR": str(self.counts),
            "FOREBAY_DRAIN_S": "2",
        }
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> int:
        """Start one more; returns its process id."""
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "forebay.cli", "gateway"],
                env=self._env,
                stdout=log,
                stderr=log,
            )
        self.processes[process.pid] = process
        return process.pid

    def end(self, pid: int, number: signal.Signals) -> None:
        """End one."""
        process = self.processes.pop(pid)
        process.send_signal(number)
        process.wait(PATIENCE_S)

    async def all_answer(self) -> None:
        """Wait until each has answered."""
        heard: set[int] = set()

        async def heard_of_all() -> bool:
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
                    heard.add((await client.get("/health/ready")).json()["pid"])
            return heard >= set(self.processes)

        await eventually(heard_of_all, what=lambda: (self._folder / "log").read_text())

    async def scraped(self) -> tuple[int, Counts]:
        """Who has answered, and all samples by their names and the values of their labels."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
            pid = (await client.get("/health/ready")).json()["pid"]
            text = (await client.get("/metrics")).text
        return pid, {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def scraped_at_all(self) -> list[Counts]:
        """What each tells, and some of them several times."""
        told: list[Counts] = []
        asked: set[int] = set()
        while asked < set(self.processes) or len(told) < 10:
            pid, counts = await self.scraped()
            asked.add(pid)
            told.append(counts)
        return told

    async def all_tell(self, sample: tuple[str, ...], value: float) -> None:
        """Wait until whoever is asked says so, and see that all do."""

        async def told() -> bool:
            # An answer is counted when it is sent: its client may be a moment ahead.
            return (await self.scraped())[1].get(sample) == value

        await eventually(told, what=lambda: f"{sample} is {value}")
        assert {counts.get(sample) for counts in await self.scraped_at_all()} == {value}

    async def send(self, requests: int) -> None:
        """Have them answered, each on a connection of its own: the system shares them out."""
        for _ in range(requests):
            async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
                assert (await client.post("/v1/predictions", json=BODY, headers=WAIT)).is_success


@pytest.fixture
async def group(tmp_path: Path, redis_url: str, key_prefix: str) -> AsyncIterator[Group]:
    group = Group(tmp_path, redis_url, key_prefix)
    try:
        for _ in range(2):
            group.start()
        await group.all_answer()
        yield group
    finally:
        for pid in tuple(group.processes):
            group.end(pid, signal.SIGKILL)


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "echo"):
        yield


async def test_every_gateway_tells_what_all_have_counted_and_no_count_goes_down(
    group: Group, worker: None
) -> None:
    sending = asyncio.create_task(group.send(200))
    before: Counts = {}
    while not sending.done():
        _, counts = await group.scraped()
        for sample, value in counts.items():
            if sample[0].endswith(("_count", "_sum", "_bucket")):
                assert value >= before.get(sample, 0.0), sample
        assert before.keys() <= counts.keys()
        before = counts
    await sending
    for sample in (MADE, SUCCEEDED):
        await group.all_tell(sample, 200)
    counts = (await group.scraped())[1]
    # What the system says of a process is told of each.
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        assert counts[name, "1"] > 0
        assert counts[name, "2"] > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_counts_of_a_gateway_that_ended_stay_and_what_it_was_at_does_not(
    group: Group, worker: None, number: signal.Signals
) -> None:
    await group.send(50)
    await group.all_tell(MADE, 50)
    async with httpx.AsyncClient(base_url=group.url, timeout=PATIENCE_S) as client:
        pid = (await client.get("/health/ready")).json()["pid"]
        body = {"version": "idle", "input": {"value": 1}}
        waiting = asyncio.create_task(client.post("/v1/predictions", json=body, headers=WAIT))
        await group.all_tell(ACTIVE, 1)
        await asyncio.to_thread(group.end, pid, number)
        with contextlib.suppress(httpx.TransportError):
            await waiting
    made = 50 if number == signal.SIGKILL else (await group.scraped())[1][MADE]
    await group.all_tell(ACTIVE, 0)
    await group.all_tell(MADE, made)
    group.start()
    await group.all_answer()
    await group.all_tell(ACTIVE, 0)
    await group.send(20)
    await group.all_tell(MADE, made + 20)
    assert len(list(group.counts.iterdir())) == 2
