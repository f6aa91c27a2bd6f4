"""What Terraform's own program makes of the files, where it can without a provider.

It evaluates variables, their validations and the locals that ask AWS nothing. Resources are not
planned: that takes the providers, and is what the modules' `*.tftest.hcl` are for.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import helm_python
import msgspec
import pytest

from tests.fixtures.charts import (
    NAMESPACE,
    NEWEST,
    Manifest,
    check,
    containers,
    of_kind,
    render,
    variables,
)
from tests.fixtures.terraforms import ROOT, TERRAFORM

PROGRAM = shutil.which("terraform")
MODULES = TERRAFORM / "modules"

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no terraform")

Given = dict[str, Any]

REDIS: Given = {
    "name": "water",
    "vpc_id": "vpc-1",
    "subnet_ids": ["subnet-1", "subnet-2"],
    "client_security_group_ids": {"nodes": "sg-1"},
    "node_type": "cache.r7g.large",
    "users_file": str(ROOT / "infra" / "redis" / "users.acl"),
    "alarm_topic_arn": "arn:aws:sns:eu-central-1:123456789012:water-alarms",
}
PLATFORM: Given = {
    "name": "water",
    "cluster": {
        "name": "water",
        "endpoint": "https://water.example",
        "security_group_id": "sg-1",
        "kms_key_arn": "arn:aws:kms:eu-central-1:123456789012:key/1",
        "oidc": {"arn": "arn:aws:iam::123456789012:oidc-provider/one", "issuer": "one"},
        "karpenter": {"role_arn": "arn:role", "queue": "water", "instance_profile": "water-node"},
    },
    "subnet_ids": ["subnet-1", "subnet-2"],
    "redis": {
        "processes": ["autoscaler", "background", "gateway", "pipeline", "worker"],
        "durability": "replicated",
        "secret_name": "water-redis",
        "secret_arn": "arn:secret",
        "kms_key_arn": "arn:key",
    },
    "storage": {
        "bucket": "water-1",
        "bucket_arn": "arn:aws:s3:::water-1",
        "kms_key_arn": "arn:key",
    },
    "image": {"repository": "registry.example/forebay", "tag": "1"},
    "models": (ROOT / "models.toml").read_text(),
}
DURABLE: Given = {
    **PLATFORM["redis"],
    "durability": "disk",
    "processes": [*PLATFORM["redis"]["processes"], "broker"],
}
NETWORK: Given = {"name": "water", "zones": ["eu-central-1a", "eu-central-1b"]}
CLUSTER: Given = {
    "name": "water",
    "kubernetes_version": "1.34",
    "subnet_ids": ["subnet-1", "subnet-2"],
}
ALERTS: Given = {"name": "water", "emails": ["ops@water.example"], "monthly_budget": 100}
ENVIRONMENT: Given = {
    "region": "eu-central-1",
    "zones": ["eu-central-1a", "eu-central-1b"],
    "image_tag": "2026-11-24",
    "models_file": str(ROOT / "models.toml"),
    "alarm_emails": ["ops@water.example"],
}
STATES: Given = {"region": "eu-central-1", "bucket": "water-states"}
GOOD: dict[str, Given] = {
    "modules/redis": REDIS,
    "modules/platform": PLATFORM,
    "modules/network": NETWORK,
    "modules/cluster": CLUSTER,
    "modules/alerts": ALERTS,
    "modules/registry": {"name": "water"},
    "modules/key": {"name": "water", "description": "Water"},
    "modules/bucket": {"name": "water", "kms_key_arn": "arn:key", "kept_days": 7},
    "environments/dev": ENVIRONMENT,
    "environments/production": ENVIRONMENT,
    "bootstrap": STATES,
}
ASKED_OF_AWS = re.compile(r'(?:data\.)?aws_\w+\.\w+(?:\["\w+"\])?\.\w+')


class RefusedError(Exception):
    """Terraform refused what it was given."""


@functools.cache
def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return kept | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}


def evaluated(folder: Path, module: str, given: Given, asked: dict[str, str]) -> dict[str, Any]:
    """Expressions over a module's variables and locals.

    Args:
        folder: an empty one.
        module: path under `terraform/`.
        given: its variables.
        asked: expressions, by a name.

    Raises:
        RefusedError: a variable's validation, or an expression that can't be evaluated.
    """
    for name in ("variables.tf", "locals.tf", "values.tf"):
        source = TERRAFORM / module / name
        if source.exists():
            (folder / name).write_text(ASKED_OF_AWS.sub('"told-by-aws"', source.read_text()))
    outputs = (f'output "{name}" {{\n  value = {what}\n}}\n' for name, what in asked.items())
    (folder / "outputs.tf").write_text("".join(outputs))
    (folder / "terraform.tfvars.json").write_text(json.dumps(given))
    _run(folder, "apply", "-auto-approve", "-input=false")
    told = json.loads(_run(folder, "output", "-json"))
    return {name: one["value"] for name, one in told.items()}


def _run(folder: Path, *args: str) -> str:
    assert PROGRAM is not None
    command = [PROGRAM, args[0], "-no-color", *args[1:]]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def test_files_are_written_as_terraform_writes_them() -> None:
    _run(TERRAFORM, "fmt", "-check", "-recursive", "-diff")


@pytest.mark.parametrize("module", GOOD)
def test_what_is_good_is_taken(module: str, tmp_path: Path) -> None:
    assert evaluated(tmp_path, module, GOOD[module], {"there": "true"}) == {"there": True}


BAD: list[tuple[str, Given, str]] = [
    ("modules/network", {"name": "Water"}, "name: 3 to 20"),
    ("modules/network", {"cidr": "10.0.0.0/24"}, "cidr: an IPv4 network of 16 bits"),
    ("modules/network", {"cidr": "ten"}, "cidr: an IPv4 network of 16 bits"),
    ("modules/network", {"zones": ["eu-central-1a"]}, "zones: two to four different"),
    ("modules/network", {"zones": ["eu-central-1a"] * 2}, "zones: two to four different"),
    ("modules/network", {"flow_log_days": 8}, "flow_log_days: one of the periods"),
    ("modules/redis", {"replicas": 0}, "replicas: 1 to 5"),
    ("modules/redis", {"engine_version": "8.0"}, "engine_version: 7.2 or newer"),
    ("modules/redis", {"durable": False, "shards": 2}, "shards: 1 to 90, and 1 if not durable"),
    ("modules/redis", {"broker_node_type": "t4g.small"}, "broker_node_type: the name of a node"),
    ("modules/redis", {"log_days": 2}, "log_days: one of the periods"),
    ("modules/redis", {"node_type": "r7g.large"}, "node_type: the name of a node"),
    ("modules/redis", {"subnet_ids": ["subnet-1"]}, "subnet_ids: two at least"),
    ("modules/redis", {"users_file": "nowhere.acl"}, "users_file: there is no such file"),
    ("modules/redis", {"key_prefix": "fore bay"}, "key_prefix: letters"),
    ("modules/redis", {"snapshot_days": 36}, "snapshot_days: 0 to 35"),
    ("modules/cluster", {"kubernetes_version": "1.29"}, "kubernetes_version: 1.30 or newer"),
    ("modules/cluster", {"api_cidrs": ["0.0.0.0/0"]}, "api_cidrs: IPv4 networks"),
    ("modules/cluster", {"admins": ["me"]}, "admins: ARNs of IAM roles"),
    ("modules/cluster", {"subnet_ids": ["subnet-1"]}, "subnet_ids: two at least"),
    ("modules/cluster", {"system_instance_types": []}, "system_instance_types: one at least"),
    ("modules/cluster", {"log_days": 2}, "log_days: one of the periods"),
    ("modules/cluster", {"system_nodes": 1}, "system_nodes: 2 at least"),
    ("modules/registry", {"kept_images": 1}, "kept_images: a whole number"),
    ("modules/registry", {"images": []}, "images: at least one"),
    ("modules/key", {"deletion_days": 6}, "deletion_days: 7 to 30"),
    ("modules/bucket", {"kept_days": 0}, "kept_days: 1 at least"),
    ("modules/alerts", {"emails": ["me"]}, "emails: at least one address"),
    ("modules/alerts", {"monthly_budget": 0}, "monthly_budget: more than 0"),
    ("modules/platform", {"models": "echo"}, "models: the text of a models.toml"),
    ("modules/platform", {"artifacts_from": "disk"}, "artifacts_from: image or bucket"),
    ("modules/platform", {"public": True}, "public: API keys don't go over the internet"),
    ("modules/platform", {"certificate_arn": "mine"}, "certificate_arn: the ARN"),
    ("modules/platform", {"cpu_nodes": {"max_cpus": 0}}, "cpu_nodes: max_cpus more than 0"),
    ("modules/platform", {"gpu_nodes": {"families": []}}, "gpu_nodes: max_gpus 0 or more"),
    ("environments/dev", {"region": "Frankfurt"}, "region: the name of an AWS region"),
    ("environments/production", {"zones": ["us-east-1a"]}, "zones: availability zones of"),
    ("environments/production", {"image_tag": "latest"}, "image_tag: letters"),
    ("environments/dev", {"models_file": "nowhere.toml"}, "models_file: there is no such file"),
    ("bootstrap", {"bucket": "Mine"}, "bucket: 3 to 63"),
]


@pytest.mark.parametrize(("module", "given", "why"), BAD)
def test_what_cannot_be_is_refused(module: str, given: Given, why: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        evaluated(tmp_path, module, GOOD[module] | given, {})
    assert why in " ".join(str(refused.value).split())


SHARED = {"name", "region", "zones", "image_tag", "models_file"}
"""What several modules and environments check in the same words: tried with one of them."""


def test_every_validation_is_tried() -> None:
    for module in GOOD:
        said = re.findall(
            r'error_message = "(\w+): ', (TERRAFORM / module / "variables.tf").read_text()
        )
        tried = {why.partition(":")[0] for tried, _, why in BAD if tried == module}
        assert set(said) - SHARED <= tried, module


def test_users_have_the_rights_of_the_file(tmp_path: Path) -> None:
    wanted = dict(
        re.findall(r"^user forebay-(\w+) (on .*)$", Path(REDIS["users_file"]).read_text(), re.M)
    )
    found = evaluated(tmp_path, "modules/redis", REDIS, {"rights": "local.rights"})["rights"]
    assert found == wanted
    assert set(found) == set(PLATFORM["redis"]["processes"])


def test_users_have_the_keys_of_another_prefix(tmp_path: Path) -> None:
    given = REDIS | {"key_prefix": "water"}
    rights = evaluated(tmp_path, "modules/redis", given, {"rights": "local.rights"})["rights"]
    for one in rights.values():
        assert "~water:" in one
        assert "forebay:" not in one


@pytest.mark.parametrize(
    ("given", "nodes"),
    [
        ({"replicas": 1}, ["water-0001-001", "water-0001-002"]),
        (
            {"replicas": 1, "shards": 2},
            ["water-0001-001", "water-0001-002", "water-0002-001", "water-0002-002"],
        ),
        ({"durable": False, "replicas": 1}, ["water-001", "water-002"]),
    ],
)
def test_alarms_are_of_every_node(given: Given, nodes: list[str], tmp_path: Path) -> None:
    asked = {"nodes": "local.nodes"}
    assert sorted(evaluated(tmp_path, "modules/redis", REDIS | given, asked)["nodes"]) == nodes


def chart(folder: Path, given: Given) -> list[Manifest]:
    """The manifests of Forebay's chart, with what the module tells it."""
    asked = {"values": "local.values"}
    values = evaluated(folder, "modules/platform", PLATFORM | given, asked)["values"]
    manifests = render(values)
    for one in manifests:
        check(one, NEWEST)
    return manifests


@pytest.mark.parametrize(
    ("redis", "broker"),
    [(PLATFORM["redis"], False), (DURABLE, True)],
    ids=["replicated", "durable"],
)
def test_every_process_is_told_its_own_redis(redis: Given, broker: bool, tmp_path: Path) -> None:
    manifests = chart(tmp_path, {"redis": redis})
    seen = set()
    for name, container in containers(manifests):
        told = variables(container)
        process = next(
            one for one in redis["processes"] if one in name.replace("beat", "background")
        )
        assert told["FOREBAY_REDIS_URL"] == f"forebay-redis/{process}"
        assert told["FOREBAY_DURABILITY"] == redis["durability"]
        if process == "background":
            assert told.get("FOREBAY_BROKER_URL") == ("forebay-redis/broker" if broker else None)
        seen.add(process)
    assert seen == {"autoscaler", "background", "gateway", "worker"}


def test_workers_go_to_nodes_of_their_kind(tmp_path: Path) -> None:
    models = (
        '[models.a]\ntask = "echo"\nbackend = "echo"\n[models.b]\ntask = "echo"\nbackend = "echo"\n'
    )
    (tmp_path / "one").mkdir()
    manifests = chart(tmp_path / "one", {"models": models})
    (tmp_path / "objects").mkdir()
    kinds = {
        tuple(one["spec"]["template"]["metadata"]["labels"].items())
        for one in objects(tmp_path / "objects", {})
        if one["kind"] == "NodePool"
    }
    assert len(kinds) == 2
    for name, one in of_kind(manifests, "Deployment").items():
        selected = tuple(one["spec"]["template"]["spec"]["nodeSelector"].items())
        assert (selected in kinds) == ("worker" in name)


@pytest.mark.parametrize("public", [False, True])
def test_gateways_are_reached_by_a_balancer(public: bool, tmp_path: Path) -> None:
    certificate = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
    given = {"public": public, "certificate_arn": certificate if public else None}
    service = of_kind(chart(tmp_path, given), "Service")["forebay-gateway"]
    told = service["metadata"]["annotations"]
    prefix = "service.beta.kubernetes.io/aws-load-balancer"
    assert service["spec"]["type"] == "LoadBalancer"
    assert told[f"{prefix}-internal"] == ("false" if public else "true")
    assert told.get(f"{prefix}-ssl-cert") == (certificate if public else None)


def test_artifacts_of_the_bucket_are_mounted_for_reading(tmp_path: Path) -> None:
    for name in ("chart", "objects"):
        (tmp_path / name).mkdir()
    given = {"artifacts_from": "bucket"}
    made = objects(tmp_path / "objects", given)
    (volume,) = of_kind(made, "PersistentVolume").values()
    (claim,) = of_kind(made, "PersistentVolumeClaim").values()
    assert volume["spec"]["csi"]["volumeAttributes"] == {"bucketName": "water-1"}
    assert "read-only" in volume["spec"]["mountOptions"]
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"]
    for one in (volume, claim):
        check(one, NEWEST)
    for one in of_kind(chart(tmp_path / "chart", given), "Deployment").values():
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in one["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert claims == [claim["metadata"]["name"]]


def objects(folder: Path, given: Given) -> list[Manifest]:
    """The manifests of the chart of what has none of its own."""
    asked = {"objects": "local.objects"}
    values = evaluated(folder, "modules/platform", PLATFORM | given, asked)["objects"]
    found = helm_python.Chart.load(MODULES / "platform" / "objects").render(
        values, name="forebay-objects", namespace=NAMESPACE
    )
    documents = (
        one for _, text in sorted(found.items()) for one in re.split(r"^---\n", text, flags=re.M)
    )
    return [one for one in map(msgspec.yaml.decode, documents) if one]


def test_there_are_nodes_with_gpus_only_if_there_may_be(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    pools = of_kind(objects(tmp_path / "with", {}), "NodePool")
    gpu = pools["forebay-gpu"]["spec"]
    assert gpu["limits"] == {"nvidia.com/gpu": 4}
    assert gpu["template"]["spec"]["taints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert gpu["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert set(
        of_kind(objects(tmp_path / "without", {"gpu_nodes": {"max_gpus": 0}}), "NodePool")
    ) == {"forebay-cpu"}


def test_secrets_are_those_that_the_chart_names(tmp_path: Path) -> None:
    for name in ("chart", "objects"):
        (tmp_path / name).mkdir()
    made = of_kind(objects(tmp_path / "objects", {}), "ExternalSecret")
    assert set(made) == {"forebay-redis"}
    (store,) = of_kind(objects(tmp_path / "objects", {}), "ClusterSecretStore")
    for one in made.values():
        assert one["spec"]["secretStoreRef"]["name"] == store
    named = {
        value.partition("/")[0]
        for _, container in containers(chart(tmp_path / "chart", {}))
        for value in variables(container).values()
        if value.startswith("forebay-") and "/" in value
    }
    assert named <= set(made)
