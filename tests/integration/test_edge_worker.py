"""A worker somewhere else: over TLS, as a user that reaches no other model's keys."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis as redis_sync

from tests.fixtures.fleet import fleet
from tests.fixtures.shapes import SHIPPED, TlsServer, password, tls_program
from tests.fixtures.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
EDGE = "forebay-edge-there"
REFUSED = r"(?i)no permission|can't access|ACL failure"

MODELS = """
[models.echo]
task = "echo"
backend = "echo"

[models.echo-2]
task = "echo"
backend = "echo"
"""


def edge_user(*words: str) -> "subprocess.CompletedProcess[str]":
    """What the program that makes such a user's line says."""
    command = [sys.executable, str(ROOT / "infra" / "edge_user.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Lanes(TlsServer):
    """A server behind TLS, with the shipped users and one for a worker of `echo` elsewhere."""

    def __init__(self, folder: Path, program: str, key_prefix: str) -> None:
        super().__init__(folder, program)
        made = edge_user(
            *("echo", "--host", socket.gethostname(), "--user", EDGE, "--key-prefix", key_prefix)
        )
        shipped = (SHIPPED / "users.acl").read_text("utf-8").replace("forebay:", f"{key_prefix}:")
        lines = [*shipped.splitlines(), made.stdout.strip()]
        told = [line.replace(" on ", f" on >{password(line.split()[1])} ", 1) for line in lines]
        (folder / "users.acl").write_text("\n".join(told) + "\n", "utf-8")

    def url_for(self, user: str) -> str:
        """Where a user connects to."""
        return self.url.replace("rediss://", f"rediss://{user}:{password(user)}@")

    @property
    def operator(self) -> redis_sync.Redis:
        """A client that may do everything."""
        return self._client(self.port)

    def _command(self, port: int) -> list[str]:
        return [*super()._command(port), "--aclfile", self._file("users.acl")]

    def _client(self, port: int) -> redis_sync.Redis:
        client = super()._client(port)
        client.connection_pool.connection_kwargs.update(
            username="operator", password=password("operator")
        )
        return client


@pytest.fixture
def lanes(key_prefix: str) -> Iterator[Lanes]:
    with tempfile.TemporaryDirectory(prefix="forebay-edge-") as folder:
        server = Lanes(Path(folder), tls_program(), key_prefix)
        server.start()
        try:
            yield server
        finally:
            server.kill()


async def test_it_answers_requests_of_its_model_and_tries_nothing_else(
    lanes: Lanes, key_prefix: str, tmp_path: Path
) -> None:
    with fleet(tmp_path, MODELS, key_prefix=key_prefix) as running:
        running.start("gateway", redis_url=lanes.url_for("forebay-gateway"))
        running.start("background", redis_url=lanes.url_for("forebay-background"))
        running.start("worker", "echo", redis_url=lanes.url_for(EDGE))
        await running.ready("echo")
        for value in (1, "x" * 100_000):
            body = {"version": "echo", "input": {"value": value}}
            async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
                answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
            assert answer.json()["output"] == value
        assert running.stop() == [0, 0, 0]
        assert "NOPERM" not in running.said
    assert lanes.operator.acl_log() == []


@pytest.mark.parametrize(
    "command",
    [
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "P:{echo-2:0}:lane:realtime", ">"),
        ("XRANGE", "P:{echo-2:0}:lane:realtime", "-", "+"),
        ("HGET", "P:{echo-2:0}:record:1", "in"),
        ("PUBLISH", "P:{echo-2:0}:endings", "1"),
        ("LPOP", "P:orders:another-host-1-1-000000000000"),
        ("SET", "P:roster:another-host-1-1-000000000000", "1"),
        ("HGET", "P:{keys}:all", "id"),
        ("GET", "P:{webhooks}:secrets"),
        ("EVAL", "return redis.call('XLEN', 'P:{echo-2:0}:lane:realtime')", "0"),
        ("KEYS", "*"),
        ("ACL", "LIST"),
    ],
)
def test_it_is_refused_what_is_not_its_models(
    lanes: Lanes, key_prefix: str, command: tuple[str, ...]
) -> None:
    words = [word.replace("P:", f"{key_prefix}:") for word in command]
    with (
        redis_sync.Redis.from_url(lanes.url_for(EDGE)) as client,
        pytest.raises(redis_sync.ResponseError, match=REFUSED),
    ):
        client.execute_command(*words)


def test_several_models_are_each_there() -> None:
    told = edge_user("a", "b", "--host", "there").stdout
    assert told.startswith("user forebay-edge-there on ")
    assert "~forebay:{a:*}:* ~forebay:{b:*}:*" in told
    assert "{*" not in told


@pytest.mark.parametrize("words", [("a*", "--host", "there"), ("a", "--host", "*")])
def test_what_would_be_a_pattern_is_refused(words: tuple[str, ...]) -> None:
    done = edge_user(*words)
    assert done.returncode == 1
    assert "mean something in a pattern" in done.stderr
