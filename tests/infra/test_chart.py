"""The chart's manifests: valid to Kubernetes and KEDA, and true of the programs that they start."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import pytest
import typer.main
from typer.core import TyperGroup

from forebay.cli.main import app
from forebay.runtime import catalog
from forebay.runtime.settings import Settings, load
from tests.fixtures.charts import (
    CHART,
    NAMESPACE,
    NEEDED,
    NEWEST,
    OLDEST,
    ROOT,
    Manifest,
    Values,
    check,
    containers,
    of_kind,
    render,
    texts,
    variables,
)
from tests.infra.value_sets import ON_GPUS, RESTING, SETS

NOT_OF_A_CLUSTER = {"gateways", "reuse_port", "counts_dir"}
"""Settings of several gateways on one port of one machine."""


@pytest.fixture(params=list(SETS.values()), ids=list(SETS))
def values(request: pytest.FixtureRequest) -> Values:
    found: Values = request.param
    return found


@pytest.fixture
def manifests(values: Values) -> list[Manifest]:
    return render(values)


def pod(deployment: Manifest) -> Manifest:
    found: Manifest = deployment["spec"]["template"]["spec"]
    return found


def workers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Deployments of workers, by the model that they serve."""
    return {
        one["metadata"]["annotations"]["forebay/model"]: one
        for one in of_kind(manifests, "Deployment").values()
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
    }


def selects(selector: dict[str, str], deployment: Manifest) -> bool:
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
def test_kubernetes_and_keda_take_every_manifest(manifests: list[Manifest], release: str) -> None:
    assert len(manifests) > 5
    for manifest in manifests:
        check(manifest, release)


def test_a_manifest_that_is_wrong_is_noticed() -> None:
    manifests = render(SETS["production"])
    for kind, path in (
        ("Deployment", ("spec", "template", "spec", "containers", 0, "image")),
        ("ScaledObject", ("spec", "maxReplicaCount")),
        ("ServiceMonitor", ("spec", "endpoints", 0, "path")),
        ("TriggerAuthentication", ("spec", "secretTargetRef", 0, "key")),
    ):
        manifest = next(iter(of_kind(manifests, kind).values()))
        at: Any = manifest
        for step in path[:-1]:
            at = at[step]
        at[f"{path[-1]}s"] = at.pop(path[-1])
        with pytest.raises(jsonschema.ValidationError):
            check(manifest, NEWEST)


def test_helm_finds_nothing_to_complain_of(values: Values) -> None:
    report = helm_python.lint(CHART, NEEDED | values, strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


def test_the_chart_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    chart = helm_python.Chart.load(CHART)
    assert chart.metadata["appVersion"] == project["version"]
    image = next(one["image"] for _, one in containers(render({})))
    assert image == f"registry.example/forebay:{project['version']}"


def test_every_command_is_one_of_the_command_line(manifests: list[Manifest]) -> None:
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    for _, container in containers(manifests):
        program, *words = container["command"]
        assert program == "forebay"
        with verbs.commands[words[0]].make_context(words[0], words[1:]) as context:
            assert context.args == []
        assert "args" not in container


def test_every_variable_is_a_setting_of_the_value_that_was_given(values: Values) -> None:
    given: dict[str, Any] = {"drain_s": 30, "log_level": "info"} | values.get("settings", {})
    gateway = {"port": 8000, "auth": "keys"} | values.get("gateway", {})
    for name, container in containers(render(values)):
        environ = variables(container)
        ours = [one for one in environ if one.startswith("FOREBAY_")]
        known = {f"FOREBAY_{field.upper()}" for field in Settings.__struct_fields__}
        assert set(ours) <= known
        told = load(environ=environ).settings
        assert {field: getattr(told, field) for field in given} == given
        assert [one for one in environ.values() if re.fullmatch(r"[0-9.]+e[+0-9]+", one)] == []
        assert told.redis_url
        if name.endswith("-gateway"):
            assert (told.host, told.port) == ("0.0.0.0", gateway["port"])
            assert told.auth == gateway["auth"]
            assert told.allow_anonymous == (gateway["auth"] == "none")


def test_the_schema_knows_the_settings_that_the_chart_does_not_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    everything = SETS["production"] | {"settings": {}}
    # The first only where nobody needs a key, the second where KEDA is told at once.
    sets = {"allow_anonymous", "keda_port", *NOT_OF_A_CLUSTER}
    for _, container in containers(render(everything)):
        sets |= {one.removeprefix("FOREBAY_").lower() for one in variables(container)}
    sets -= {"drain_s", "log_level"}
    offered = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert offered == [field for field in Settings.__struct_fields__ if field not in sets]


@pytest.mark.parametrize("models", [RESTING, ON_GPUS], ids=["resting", "on GPUs"])
def test_workers_are_those_that_the_catalog_wants(models: str, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(models)
    wanted = {spec.name: spec for spec in catalog.read(path).wanted}
    told = {"second": {"gpus": 2}} if models is ON_GPUS else {}
    manifests = render(
        {"models": models, "keda": {"enabled": True}, "workers": {"models": told}}
        | {"gateway": {"keySecret": {"name": "key"}}}
    )
    found = workers(manifests)
    assert found.keys() == wanted.keys()
    scaled = of_kind(manifests, "ScaledObject")
    for name, deployment in found.items():
        replicas = wanted[name].replicas
        assert pod(deployment)["containers"][0]["command"] == ["forebay", "worker", name]
        scaler = scaled.get(deployment["metadata"]["name"])
        if replicas.is_fixed:
            assert scaler is None
            assert deployment["spec"]["replicas"] == replicas.min
        else:
            assert scaler is not None
            assert "replicas" not in deployment["spec"]  # or every upgrade would set it anew
            assert scaler["spec"]["minReplicaCount"] == replicas.min
            assert scaler["spec"]["maxReplicaCount"] == replicas.most
            # The policy has waited for `idle_s` by then.
            assert scaler["spec"]["cooldownPeriod"] == 0
    assert len(scaled) == sum(not spec.replicas.is_fixed for spec in wanted.values())


@pytest.mark.parametrize(
    ("models", "keda", "there"), [(RESTING, True, True), (RESTING, False, False), ("", True, False)]
)
def test_who_says_how_many_workers_there_should_be_is_there_where_it_is_asked(
    models: str, keda: bool, there: bool
) -> None:
    given = {"models": models} if models else {}
    asked = {"keda": {"enabled": keda}, "gateway": {"keySecret": {"name": "key"}}}
    found = of_kind(render(given | asked), "Deployment")
    assert ("demo-autoscaler" in found) is there
    if there:
        (container,) = pod(found["demo-autoscaler"])["containers"]
        assert container["command"] == ["forebay", "autoscale", "run"]


def test_the_catalog_comes_to_the_pods_as_it_was_given() -> None:
    config = of_kind(render({"models": RESTING}), "ConfigMap")["demo-models"]
    assert config["data"]["models.toml"].strip() == RESTING.strip()


def test_without_keda_a_model_that_may_rest_has_one_worker_and_the_notes_say_so() -> None:
    found = workers(render({"models": RESTING}))
    assert {name: one["spec"]["replicas"] for name, one in found.items()} == {
        "minilm": 1,
        "minilm@v2": 1,
        "minilm@copy": 1,
        "two-models": 2,
        "two.models": 1,
        "a-model-with-a-name-that-is-as-long-as-a-name-of-a-model-may-be": 1,
    }
    notes = next(text for path, text in texts({"models": RESTING}).items() if "NOTES" in path)
    assert "minilm may rest at zero" in notes
    assert "API key" in notes


@pytest.mark.parametrize("release", ["demo", "r" * 53])
def test_names_and_labels_are_short_enough_and_no_two_alike(release: str) -> None:
    manifests = render(SETS["production"], release=release)
    kinds = {one["kind"] for one in manifests}
    assert sum(len(of_kind(manifests, kind)) for kind in kinds) == len(manifests)
    for manifest in manifests:
        assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        for value in manifest["metadata"]["labels"].values():
            assert re.fullmatch("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)


def test_pods_are_found_by_what_is_theirs_alone(manifests: list[Manifest]) -> None:
    deployments = of_kind(manifests, "Deployment")
    for name, deployment in deployments.items():
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [one for one, other in deployments.items() if selects(selector, other)] == [name]
    for kind in ("Service", "PodDisruptionBudget"):
        for name, manifest in of_kind(manifests, kind).items():
            selector = manifest["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            assert [one for one, other in deployments.items() if selects(selector, other)] == [name]
    monitored = [
        selects(one["spec"]["selector"]["matchLabels"], {"spec": {"template": service}})
        for one in of_kind(manifests, "ServiceMonitor").values()
        for service in of_kind(manifests, "Service").values()
    ]
    assert all(monitored)


def test_every_pod_has_one_network_policy_and_only_gateways_can_be_reached() -> None:
    manifests = render(SETS["production"])
    policies = of_kind(manifests, "NetworkPolicy").values()
    for name, deployment in of_kind(manifests, "Deployment").items():
        (policy,) = (
            one["spec"]
            for one in policies
            if selects(one["spec"]["podSelector"]["matchLabels"], deployment)
        )
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        ports = {one["name"]: one for one in pod(deployment)["containers"][0].get("ports", ())}
        reached = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
        assert reached == list(ports)
        assert bool(reached) == name.endswith("-gateway")
        called = [peer for rule in policy["egress"] for peer in rule.get("to", ())]
        assert {"ipBlock": {"cidr": "10.1.2.3/32"}} in called
        public = [one for one in called if one["ipBlock"]["cidr"] == "0.0.0.0/0"]
        assert bool(public) == name.endswith(("-gateway", "-background"))


def test_nothing_in_a_pod_may_more_than_it_must(manifests: list[Manifest]) -> None:
    for deployment in of_kind(manifests, "Deployment").values():
        spec = pod(deployment)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # FOREBAY_PORT would be a release's of this name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_mount_has_its_volume_and_every_volume_is_mounted(manifests: list[Manifest]) -> None:
    for deployment in of_kind(manifests, "Deployment").values():
        spec = pod(deployment)
        mounts = [one for container in spec["containers"] for one in container["volumeMounts"]]
        assert {one["name"] for one in mounts} == {one["name"] for one in spec["volumes"]}
        paths = [one["mountPath"] for one in mounts]
        assert len(paths) == len(set(paths))
        assert "/tmp" in paths


def test_pods_are_given_longer_to_end_than_their_process_takes() -> None:
    manifests = render({"settings": {"drain_s": 45.5}, "gateway": {"preStopSeconds": 7}})
    for name, deployment in of_kind(manifests, "Deployment").items():
        (container,) = pod(deployment)["containers"]
        drain_s = load(environ=variables(container)).settings.drain_s
        hook = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
        before_s = hook["preStop"]["sleep"]["seconds"]
        assert before_s == (7 if name.endswith("-gateway") else 0)
        assert pod(deployment)["terminationGracePeriodSeconds"] >= before_s + drain_s + 10


def test_each_process_has_the_redis_user_that_is_its_own() -> None:
    manifests = render(SETS["production"])
    used = {
        name: variables(container)["FOREBAY_REDIS_URL"].removeprefix("redis-users/")
        for name, container in containers(manifests)
    }
    named = {one["metadata"]["name"]: name for name, one in workers(manifests).items()}
    assert {named.get(name, name): key for name, key in used.items()} == {
        "demo-gateway": "gateway-url",
        "demo-background": "background-url",
        "demo-beat": "background-url",
        "demo-autoscaler": "autoscaler-url",
        **dict.fromkeys(workers(manifests), "worker-url"),
        "two.models": "pipeline-url",
    }
    assert "demo-redis" not in of_kind(manifests, "Secret")
    for name, container in containers(manifests):
        broker = variables(container).get("FOREBAY_BROKER_URL")
        assert (broker == "redis-users/broker-url") == name.endswith(("-background", "-beat"))


def test_passwords_are_in_secrets_alone() -> None:
    url = "rediss://gateway:sesame@redis.example:6380/0"
    manifests = render({"redis": {"url": url}, "triggers": 'url = "amqp://user:sesame@broker"'})
    bare = [one for one in manifests if "sesame" in json.dumps(one)]
    assert bare == []  # in the Secrets it is base64
    assert of_kind(manifests, "Secret").keys() == {"demo-redis", "demo-triggers"}


def test_keda_asks_the_gateways_service_with_a_key() -> None:
    manifests = render(SETS["production"])
    (service,) = of_kind(manifests, "Service").values()
    (auth,) = of_kind(manifests, "TriggerAuthentication").values()
    named = {one["metadata"]["name"]: name for name, one in workers(manifests).items()}
    scaled = of_kind(manifests, "ScaledObject")
    assert scaled
    for name, scaler in scaled.items():
        (trigger,) = scaler["spec"]["triggers"]
        port = service["spec"]["ports"][0]["port"]
        host = f"{service['metadata']['name']}.{NAMESPACE}.svc"
        assert trigger["metadata"] == {
            "url": f"http://{host}:{port}/autoscale/{named[name]}",
            "valueLocation": "replicas.desired",
            "targetValue": "1",
            "authMode": "bearer",
        }
        assert trigger["metricType"] == "AverageValue"
        assert trigger["authenticationRef"] == {"name": auth["metadata"]["name"]}
        assert scaler["spec"]["scaleTargetRef"] == {"name": name}
    told = {"parameter": "token", "name": "monitoring-key", "key": "token"}
    assert auth["spec"]["secretTargetRef"] == [told]


def test_keda_is_told_by_the_autoscaler_and_needs_no_key() -> None:
    manifests = render(SETS["KEDA is told at once"])
    assert of_kind(manifests, "TriggerAuthentication") == {}
    service = of_kind(manifests, "Service")["demo-autoscaler"]
    autoscaler = of_kind(manifests, "Deployment")["demo-autoscaler"]
    (container,) = pod(autoscaler)["containers"]
    told = load(environ=variables(container)).settings
    (port,) = service["spec"]["ports"]
    assert (told.host, told.keda_port) == ("0.0.0.0", port["port"])
    assert container["ports"] == [{"name": port["targetPort"], "containerPort": told.keda_port}]
    assert (
        service["spec"]["selector"].items()
        <= autoscaler["spec"]["template"]["metadata"]["labels"].items()
    )
    named = {one["metadata"]["name"]: name for name, one in workers(manifests).items()}
    scaled = of_kind(manifests, "ScaledObject")
    assert scaled
    for name, scaler in scaled.items():
        (trigger,) = scaler["spec"]["triggers"]
        assert trigger == {
            "type": "external-push",
            "metricType": "AverageValue",
            "metadata": {
                "scalerAddress": f"demo-autoscaler.{NAMESPACE}.svc:{told.keda_port}",
                "model": named[name],
            },
        }
    policy = of_kind(manifests, "NetworkPolicy")["demo-autoscaler"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"name": "keda"}}}]


def test_where_nobody_needs_a_key_keda_has_none() -> None:
    manifests = render(SETS["KEDA, and nobody needs a key"])
    assert of_kind(manifests, "TriggerAuthentication") == {}
    for scaler in of_kind(manifests, "ScaledObject").values():
        (trigger,) = scaler["spec"]["triggers"]
        assert "authenticationRef" not in trigger
        assert "authMode" not in trigger["metadata"]
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    assert "authorization" not in monitor["spec"]["endpoints"][0]


def test_workers_have_the_gpus_that_their_models_ask_for() -> None:
    found = workers(render(SETS["GPUs"]))
    gpus = {
        name: pod(one)["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu", 0)
        for name, one in found.items()
    }
    assert gpus == {"torch": 1, "second": 2, "graph": 1, "llama": 4, "own": 1, "small": 0}
    for name, one in found.items():
        on_gpus = {
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ],
            "nodeSelector": {"accelerator": "h100"},
            "runtimeClassName": "nvidia",
        }
        told = {key: pod(one)[key] for key in on_gpus if key in pod(one)}
        assert told == (on_gpus if gpus[name] else {})
        mounts = [at["mountPath"] for at in pod(one)["containers"][0]["volumeMounts"]]
        assert ("/dev/shm" in mounts) == bool(gpus[name])
    assert found["second"]["spec"]["strategy"] == {"type": "Recreate"}
    assert pod(found["llama"])["containers"][0]["image"] == "registry.example/forebay-vllm:0.1.0"


def test_a_change_of_one_model_starts_its_own_workers_anew_and_pipelines() -> None:
    def changed(what: str, to: str) -> set[str]:
        assert what in RESTING
        before, after = (
            {
                name: one["spec"]["template"]["metadata"]["annotations"]["forebay/checksum"]
                for name, one in workers(render({"models": models})).items()
            }
            for models in (RESTING, RESTING.replace(what, to))
        )
        return {name for name, stamp in before.items() if after[name] != stamp}

    table = "[models.two-models]"
    assert changed(table, f"{table}\nthreads = 2") == {"two-models", "two.models"}
    assert changed("max = 3", "max = 4") == {"two.models"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": {}}, "image.repository: name an image"),
        ({"models": ""}, "--set-file models=models.toml"),
        ({"models": "[models"}, "models: not valid TOML"),
        ({"models": "[other]"}, "add a [models.NAME] table"),
        ({"redis": {}}, "redis: say where Redis is"),
        ({"redis": {"url": "redis://a", "existingSecret": {"name": "b"}}}, "leave one out"),
        ({"redis": {"url": "http://a"}}, "at '/redis/url'"),
        ({"gateway": {"auth": "none"}}, "anybody who reaches a gateway could use it"),
        ({"gateway": {"auth": "jwt"}}, "at '/gateway/auth'"),
        ({"gateway": {"port": 8001, "grpc": {"enabled": True}}}, "another than gateway.port"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.host: say"),
        ({"keda": {"enabled": True}}, "KEDA and Prometheus need an API key"),
        ({"serviceMonitor": {"enabled": True}}, "KEDA and Prometheus need an API key"),
        ({"settings": {"drian_s": 5}}, "drian_s"),
        ({"settings": {"redis_url": "redis://a"}}, "redis_url"),
        ({"settings": {"drain_s": 0}}, "at '/settings/drain_s'"),
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"workers": {"models": {"ecco": {}}}}, "workers.models.ecco: models.toml has no such"),
        ({"home": {"existingClaim": "a", "artifactsClaim": "b"}}, "leave artifactsClaim out"),
        ({"models": ON_GPUS}, 'second says device = "cuda:1"; its pod has 1'),
    ],
)
def test_what_can_not_work_is_refused_and_it_says_why(values: Values, message: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    assert message in str(refused.value)
