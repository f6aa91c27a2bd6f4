"""The gateway as a process: signals, drain, exit status."""

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from tests.fixtures.answering import answering
from tests.fixtures.tensors import EXPECTED, TEXTS, texts
from tests.fixtures.waiting import PATIENCE_S, eventually

MODELS = """
[models.echo]
task = "echo"
backend = "echo"
[models.minilm]
task = "embedding"
backend = "onnx"
source = "package:none"
"""
ECHO = {"version": "echo", "input": {"value": 1}}
WAIT = {"Prefer": "wait"}
PROGRAM = """
import logging, sys
from pathlib import Path
from forebay.contract.errors import ForebayError
from forebay.gateway.app import serve
from forebay.runtime import catalog, settings

logging.basicConfig(level="INFO")
try:
    read = settings.load().settings
    serve(read, catalog.read(Path(read.models_file)))
except ForebayError as error:
    sys.exit(f"forebay: {error.message}")
"""


class Process:
    """A gateway process on a port of its own."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        key_prefix: str,
        *,
        port: int,
        grpc_port: int = 0,
        drain_s: float = 2.0,
    ) -> None:
        models = folder / "models.toml"
        models.write_text(MODELS)
        self.log = folder / "log"
        self.url = f"http://127.0.0.1:{port}"
        self.grpc_port = grpc_port
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env={
                    **os.environ,
                    "FOREBAY_HOME": str(folder),
                    "FOREBAY_REDIS_URL": redis_url,
                    "FOREBAY_KEY_PREFIX": key_prefix,
                    "FOREBAY_MODELS_FILE": str(models),
                    "FOREBAY_PORT": str(port),
                    "FOREBAY_GRPC_PORT": str(grpc_port),
                    "FOREBAY_DRAIN_S": str(drain_s),
                },
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/health/ready")).status_code == 200
        return False

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


@pytest.fixture
def drain_s() -> float:
    """The gateway's grace: no less than what waits in it takes on a slow machine."""
    return 60.0


@pytest.fixture
async def gateway(
    tmp_path: Path, redis_url: str, key_prefix: str, drain_s: float
) -> AsyncIterator[Process]:
    ports = {"port": free_port(), "grpc_port": free_port()}
    process = Process(tmp_path, redis_url, key_prefix, drain_s=drain_s, **ports)
    try:
        await eventually(process.ready)
        yield process
    finally:
        process.process.kill()
        process.process.wait(PATIENCE_S)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def grpc_client(gateway: Process) -> Any:
    return triton.InferenceServerClient(f"127.0.0.1:{gateway.grpc_port}")


async def demand(gateway: Process, model: str) -> bool:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        told = (await client.get("/health/ready")).json()
    return bool(told["models"][model]["demand"]["realtime"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_with_status_0_when_told_to(
    gateway: Process, number: signal.Signals
) -> None:
    gateway.process.send_signal(number)
    assert await gateway.ended() == 0
    assert "Traceback" not in gateway.log.read_text()


async def test_a_gateway_that_drains_answers_what_it_has_taken(
    gateway: Process, redis_url: str, keys: Keys
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        asked = asyncio.create_task(client.post("/v1/predictions", json=ECHO, headers=WAIT))

        async def taken() -> bool:
            told = (await client.get("/health/ready")).json()
            return bool(told["models"]["echo"]["demand"]["realtime"])

        await eventually(taken)
        gateway.process.terminate()

        async def refuses() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            except ConnectionError:
                return True
            writer.close()
            return False

        await eventually(refuses)
        async with answering(redis_url, keys, "echo"):
            assert (await asked).json()["output"] == 1
    assert await gateway.ended() == 0


@pytest.mark.parametrize("drain_s", [2.0])
async def test_what_is_not_done_when_the_grace_ends_is_answered_and_the_status_is_0(
    gateway: Process,
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        with_id = asyncio.create_task(client.post("/v1/predictions", json=ECHO, headers=WAIT))
        without = asyncio.create_task(
            client.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
        )

        async def taken() -> bool:
            models = (await client.get("/health/ready")).json()["models"]
            return all(models[name]["demand"]["realtime"] for name in ("echo", "minilm"))

        await eventually(taken)
        since = time.monotonic()
        gateway.process.terminate()
        told = await with_id
        assert (told.status_code, told.json()["status"]) == (201, "starting")
        told = await without
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
    assert await gateway.ended() == 0
    assert time.monotonic() - since < 20, "long before anybody's deadline"
    assert "Traceback" not in gateway.log.read_text()


async def test_a_gateway_that_drains_answers_what_came_by_grpc_and_takes_no_more(
    gateway: Process, redis_url: str, keys: Keys
) -> None:
    async with grpc_client(gateway) as client, grpc_client(gateway) as other:
        asked = asyncio.create_task(client.infer("minilm", [texts(triton, TEXTS)]))
        await eventually(lambda: demand(gateway, "minilm"))
        gateway.process.terminate()

        async def refuses() -> bool:
            try:
                return not await other.is_server_live(client_timeout=1)
            except InferenceServerException:
                return True

        await eventually(refuses)
        async with answering(redis_url, keys, "minilm"):
            assert np.array_equal((await asked).as_numpy("embedding"), EXPECTED)
    assert await gateway.ended() == 0
    assert "Traceback" not in gateway.log.read_text()


@pytest.mark.parametrize("drain_s", [2.0])
async def test_what_came_by_grpc_and_is_not_done_when_the_grace_ends_is_told_so(
    gateway: Process,
) -> None:
    async with grpc_client(gateway) as client:
        asked = asyncio.create_task(client.infer("minilm", [texts(triton, TEXTS)]))
        await eventually(lambda: demand(gateway, "minilm"))
        gateway.process.terminate()
        with pytest.raises(InferenceServerException, match="This gateway stops") as caught:
            await asked
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert await gateway.ended() == 0
    assert "Traceback" not in gateway.log.read_text()


async def test_a_busy_port_for_grpc_is_one_line_and_a_status_that_is_not_0(
    tmp_path: Path, redis_url: str, key_prefix: str, busy_port: int
) -> None:
    process = Process(tmp_path, redis_url, key_prefix, port=free_port(), grpc_port=busy_port)
    assert await process.ended() != 0
    lines = process.log.read_text().strip().splitlines()
    assert lines == [
        f"forebay: Port {busy_port} on 127.0.0.1 is taken. Stop what listens there, or choose "
        "another with --grpc-port or FOREBAY_GRPC_PORT."
    ]


async def test_a_busy_port_is_one_line_and_a_status_that_is_not_0(
    tmp_path: Path, redis_url: str, key_prefix: str, busy_port: int
) -> None:
    process = Process(tmp_path, redis_url, key_prefix, port=busy_port)
    assert await process.ended() != 0
    lines = process.log.read_text().strip().splitlines()
    assert lines == [
        f"forebay: Port {busy_port} on 127.0.0.1 is taken. Stop what listens there, or choose "
        "another with --port or FOREBAY_PORT."
    ]


FORM = {"content-type": "multipart/form-data; boundary=b"}
FORM_HEAD = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
)


def peak_bytes(process: Process) -> int:
    """The most memory that a process has had so far."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_file_of_any_size_passes_through_little_memory(
    gateway: Process, tmp_path: Path
) -> None:
    piece, pieces = os.urandom(1 << 18), 256  # 64 MiB

    async def body() -> AsyncIterator[bytes]:
        yield FORM_HEAD
        for _ in range(pieces):
            yield piece
        yield b"\r\n--b--\r\n"

    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        small = {"file": b"x"}
        await client.post("/v1/files", files=small, data={"purpose": "user_data"})
        before = peak_bytes(gateway)
        made = (await client.post("/v1/files", content=body(), headers=FORM)).json()
        assert made["bytes"] == pieces * len(piece)
        digest, size = hashlib.sha256(), 0
        async with client.stream("GET", f"/v1/files/{made['id']}/content") as answer:
            async for chunk in answer.aiter_bytes():
                digest.update(chunk)
                size += len(chunk)
        assert size == made["bytes"]
        assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert peak_bytes(gateway) - before < 32 << 20


async def test_an_upload_that_breaks_off_leaves_nothing(gateway: Process, tmp_path: Path) -> None:
    contents = tmp_path / "files" / "contents"

    def parts() -> list[Path]:
        return list(contents.glob("*"))

    _, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM['content-type']}\r\n"
    writer.write(head.encode() + b"content-length: 9000000\r\n\r\n" + FORM_HEAD + b"x" * 400_000)
    await eventually(lambda: len(parts()) == 1, what="it is being written")
    writer.close()
    await eventually(lambda: not parts(), what="nothing of it is left")
