"""What the chart's containers start, started: as told, but for the mounts and where Redis is."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from forebay.local.server import free_port
from tests.fixtures.charts import MODELS, Manifest, containers, of_kind, render, variables
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

PREDICTION = {"version": "echo", "input": {"value": "as it was"}}


class Cluster:
    """Every container of a rendered chart as a process, without root and a machine of its own.

    Args:
        folder: for what would be mounted, and the logs.
        redis_url: what the chart's Secret would hold.
        key_prefix: of the test.
    """

    def __init__(self, folder: Path, redis_url: str, key_prefix: str) -> None:
        self.home, self.port = folder / "home", free_port()
        self.manifests = render(
            {
                "home": {"path": str(self.home)},
                "gateway": {"port": self.port},
                "settings": {"key_prefix": key_prefix, "drain_s": 60},
                "models": MODELS,
            }
        )
        config = of_kind(self.manifests, "ConfigMap")["demo-models"]
        models = folder / "models.toml"
        models.write_text(config["data"]["models.toml"])
        self.nowhere = folder / "nowhere"  # here nothing may be written: an image is read-only
        self.nowhere.mkdir()
        own = {
            "FOREBAY_REDIS_URL": redis_url,
            "FOREBAY_MODELS_FILE": str(models),
            "HOME": str(self.nowhere),
        }
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")
        } | own
        self.containers: dict[str, Manifest] = dict(containers(self.manifests))
        self.logs = {name: folder / f"{name}.log" for name in self.containers}
        self.processes = {name: self._start(name, own) for name in self.containers}

    def _start(self, name: str, own: dict[str, str]) -> subprocess.Popen[bytes]:
        container = self.containers[name]
        _, *words = container["command"]
        with self.logs[name].open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "forebay.cli", *words],
                cwd=self.nowhere,
                env=self.environ | variables(container) | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def forebay(self, *words: str) -> str:
        """What a verb prints that somebody runs with the same settings."""
        gateway = variables(self.containers["demo-gateway"])
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", *words],
            cwd=self.nowhere,
            env=gateway | self.environ,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def said(self, name: str, text: str) -> bool:
        """Whether a process has said this; all must still run."""
        for one, process in self.processes.items():
            assert process.poll() is None, self.logs[one].read_text()
        return text in self.logs[name].read_text()


@pytest.fixture
def cluster(tmp_path: Path, redis_url: str, key_prefix: str) -> Iterator[Cluster]:
    running = Cluster(tmp_path, redis_url, key_prefix)
    try:
        yield running
    finally:
        for process in running.processes.values():
            process.kill()
            process.wait(PATIENCE_S)


def answers(client: httpx.Client, gateway: Manifest, probe: str) -> bool:
    """Whether one of the gateway's probes finds it well."""
    with contextlib.suppress(httpx.TransportError):
        return client.get(gateway[probe]["httpGet"]["path"]).status_code == 200
    return False


def test_containers_start_answer_their_probes_write_where_they_may_and_end(
    cluster: Cluster,
) -> None:
    assert cluster.processes.keys() == {
        "demo-gateway",
        "demo-background",
        "demo-beat",
        "demo-worker-echo",
    }
    gateway = cluster.containers["demo-gateway"]
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", timeout=PATIENCE_S) as client:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            eventually_sync(functools.partial(answers, client, gateway, name), what=name)

        assert client.post("/v1/predictions", json=PREDICTION).status_code == 401
        monitoring = cluster.forebay("keys", "create", "--scopes", "dashboard")
        headers = {"authorization": f"Bearer {monitoring}"}
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=headers).status_code == 200

        headers = {"authorization": f"Bearer {cluster.forebay('keys', 'create')}"}
        answer = client.post(
            "/v1/predictions", json=PREDICTION, headers=headers | {"prefer": "wait=60"}
        )
        assert answer.json()["status"] == "succeeded", answer.text

    eventually_sync(lambda: cluster.said("demo-beat", "scheduling"))
    eventually_sync(lambda: cluster.said("demo-background", "working on"))
    for process in cluster.processes.values():
        process.send_signal(signal.SIGTERM)
    ended = {name: process.wait(PATIENCE_S) for name, process in cluster.processes.items()}
    assert ended == dict.fromkeys(cluster.processes, 0)

    assert list(cluster.nowhere.iterdir()) == []
    mounts = {at["mountPath"] for at in gateway["volumeMounts"]}
    written = {str(path) for path in cluster.home.glob("*")}
    assert written <= mounts
