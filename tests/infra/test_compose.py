"""docker-compose.yml: by the Compose specification, and its commands as plain processes.

What this can't cover: building images, mounts, networks, health checks and restarts, which take
Docker.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from compose_spec import PyCompose
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from tests.fixtures.composing import FILE, ROOT, Containers, filled, passwords, services
from tests.fixtures.processes import workers_of
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

MODELS = """
[models.echo]
task = "echo"
backend = "echo"
replicas = { min = 0, max = 2, idle_s = 1 }
"""
OURS = ("gateway", "background", "beat", "workers", "workers-gpu", "cli", "models")
ECHO = {"version": "echo", "input": {"value": "as it was"}}


@pytest.fixture
def told() -> dict[str, Any]:
    return services(passwords())


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    made = Containers(tmp_path, MODELS)
    try:
        yield made
    finally:
        made.stop()


def test_it_is_a_compose_file_and_what_it_refers_to_is_there() -> None:
    told = msgspec.yaml.decode(filled(FILE.read_text("utf-8"), passwords()))
    compose = PyCompose.from_json(msgspec.json.encode(told).decode())
    compose.validate()
    names = set(compose.service_names())
    assert {*OURS, "valkey", "collector", "jaeger", "prometheus", "grafana"} == names


def test_without_passwords_nothing_is_started_and_the_script_is_named() -> None:
    with pytest.raises(KeyError, match=r"infra/docker/env\.sh"):
        services({})


def test_no_two_passwords_are_alike_or_made_twice() -> None:
    first, again = passwords(), passwords()
    assert len({*first.values(), *again.values()}) == 2 * len(first)
    assert all(re.fullmatch(r"[0-9a-f]{24,}", word) for word in first.values())


def test_services_depend_on_others_and_files_that_there_are(told: dict[str, Any]) -> None:
    for name, service in told.items():
        for other in service.get("depends_on", ()):
            assert other in told, name
        for volume in service.get("volumes", ()):
            source = str(volume).split(":", 1)[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"


@pytest.mark.parametrize("name", OURS)
def test_our_processes_have_no_rights_and_write_to_their_volumes_alone(
    told: dict[str, Any], name: str
) -> None:
    service = told[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    target = service["build"]["target"]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text("utf-8")
    assert f" AS {target}\n" in dockerfile


def test_workers_and_the_server_are_reached_from_nowhere(told: dict[str, Any]) -> None:
    for name in ("valkey", "workers", "workers-gpu", "beat", "collector"):
        assert told[name]["networks"] == ["lanes"]
        assert "ports" not in told[name]
    file = msgspec.yaml.decode(filled(FILE.read_text("utf-8"), passwords()))
    assert file["networks"]["lanes"] == {"internal": True}


def test_ports_are_this_machines_alone_unless_that_is_said() -> None:
    for listen, host in ((None, "127.0.0.1"), ("0.0.0.0", "0.0.0.0")):
        env = passwords() | ({"FOREBAY_LISTEN": listen} if listen else {})
        ports = [port for one in services(env).values() for port in one.get("ports", ())]
        assert len(ports) == 5
        assert all(str(port).startswith(f"{host}:") for port in ports)


def test_a_process_ends_by_itself_before_it_is_killed(told: dict[str, Any]) -> None:
    for name in ("gateway", "background", "workers", "workers-gpu"):
        grace_s = int(told[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > int(told[name]["environment"]["FOREBAY_DRAIN_S"]) + 10


def test_its_processes_answer_together_with_a_key_and_workers_come_and_go(
    containers: Containers,
) -> None:
    containers.start("valkey")
    eventually_sync(lambda: _listens(containers.redis_port), what=lambda: containers.said)
    for name in ("gateway", "background", "beat"):
        containers.start(name)
    workers = containers.start("workers")
    base = f"http://127.0.0.1:{containers.port}"
    eventually_sync(lambda: _lives(base), what=lambda: containers.said)
    assert httpx.post(f"{base}/v1/predictions", json=ECHO).status_code == 401

    key = containers.ask("keys", "create", "--name", "me")
    headers = {"authorization": f"Bearer {key}", "prefer": "wait"}
    assert not workers_of(workers, "echo")
    answer = httpx.post(
        f"{base}/v1/predictions", json=ECHO, headers=headers, timeout=PATIENCE_S
    ).json()
    assert answer["status"] == "succeeded", containers.said
    assert answer["output"] == "as it was"
    eventually_sync(lambda: not workers_of(workers, "echo"), what=lambda: containers.said)

    seeing = containers.ask("keys", "create", "--name", "prometheus", "--scopes", "dashboard")
    metrics = httpx.get(f"{base}/metrics", headers={"authorization": f"Bearer {seeing}"})
    _has_all_that_is_drawn_and_alerted(metrics.text)
    assert "noperm" not in containers.said.lower()


def test_the_server_knows_nobody_but_its_users_and_forgets_nothing(
    containers: Containers,
) -> None:
    server = containers.start("valkey")
    eventually_sync(lambda: _listens(containers.redis_port), what=lambda: containers.said)
    stranger = Redis(port=containers.redis_port)
    with pytest.raises(AuthenticationError):
        stranger.ping()
    env = containers.services["valkey"]["environment"]

    def user(name: str, whose: str) -> Redis:
        password = env[f"FOREBAY_{whose}_PASSWORD"]
        return Redis(
            port=containers.redis_port, username=name, password=password, decode_responses=True
        )

    operator = user("operator", "OPERATOR")
    assert operator.config_get("appendonly")["appendonly"] == "yes"
    assert operator.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    operator.set("kept", "yes")
    ours = {"gateway": "GATEWAY", "background": "BACKGROUND", "pipeline": "WORKER"}
    for who, whose in ours.items():
        name = f"forebay-{who}"
        with pytest.raises(NoPermissionError):
            user(name, whose).flushall()
        with pytest.raises(AuthenticationError):
            Redis(port=containers.redis_port, username=name, password="").ping()
    server.kill()
    server.wait()
    containers.start("valkey")
    eventually_sync(lambda: _listens(containers.redis_port), what=lambda: containers.said)
    assert user("operator", "OPERATOR").get("kept") == "yes"
    mode = (containers.folder / "run/users.acl").stat().st_mode & 0o777
    assert mode == 0o600


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_prometheus_takes_its_settings_and_rules() -> None:
    rules = ROOT / "infra/prometheus/rules.yml"
    done = subprocess.run(
        ["promtool", "check", "rules", str(rules)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 rules found" in done.stdout


def test_what_prometheus_the_collector_and_grafana_ask_is_where_they_ask_for_it(
    told: dict[str, Any],
) -> None:
    prometheus = msgspec.yaml.decode((ROOT / "infra/prometheus/prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert told["prometheus"]["secrets"] == ["metrics_key"]
    for file in prometheus["rule_files"]:
        assert (ROOT / "infra/prometheus" / file).exists()
    collector = msgspec.yaml.decode((ROOT / "infra/otel/collector.yaml").read_text())
    pipeline = collector["service"]["pipelines"]["traces"]
    for kind, names in pipeline.items():
        assert set(names) <= set(collector[kind])
    assert collector["exporters"]["otlp"]["endpoint"].split(":")[0] in told
    sources = msgspec.yaml.decode(
        (ROOT / "infra/grafana/provisioning/datasources/datasources.yaml").read_text()
    )
    for source in sources["datasources"]:
        assert httpx.URL(source["url"]).host in told


def _has_all_that_is_drawn_and_alerted(metrics: str) -> None:
    """Every metric that the dashboard and the alerts name is one that the gateway has."""
    board = json.loads((ROOT / "infra/grafana/dashboards/forebay.json").read_text())
    drawn = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = msgspec.yaml.decode((ROOT / "infra/prometheus/rules.yml").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    named = set(re.findall(r"\b(?:http|forebay|process)_\w+", " ".join(drawn + alerts)))
    labels = set(re.findall(r"(\w+)=\"", metrics)) | {"le"}
    series = set(re.findall(r"^(\w+)", metrics, re.MULTILINE))
    assert len(named) > 6
    assert named - labels <= series


def _listens(port: int) -> bool:
    try:
        Redis(port=port).ping()
    except AuthenticationError:
        return True
    except Exception:
        return False
    return True


def _lives(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health/live").status_code == 200
    except httpx.HTTPError:
        return False
