"""Terraform's files: known to the providers, at one with each other, and true of the chart.

Nothing here asks AWS, or runs a provider: whether AWS takes a value, and whether what is made works
together, is not shown. `terraform/README.md` says what was never run.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.terraforms import (
    FOLDERS,
    META,
    TERRAFORM,
    Block,
    Body,
    blocks,
    is_block,
    local_names,
    of_kind,
    own,
    schemas,
    text,
)

CHECKOV = os.environ.get("CHECKOV") or shutil.which("checkov")
"""290 MB that want other versions of much: `.ci/run` gives it an environment of its own."""

ENVIRONMENTS = sorted((TERRAFORM / "environments").iterdir())
MODULES = sorted((TERRAFORM / "modules").iterdir())

REFERENCE = re.compile(
    r"(?<![\w.])(data\.)?((?:aws|helm|random)_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.(\w+))?"
)
"""A resource or data source, its name, and which of its attributes."""


@pytest.fixture(params=FOLDERS, ids=lambda one: str(one.relative_to(TERRAFORM)))
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_has_the_rooms_that_its_page_names() -> None:
    page = (TERRAFORM / "README.md").read_text()
    for one in (*MODULES, *ENVIRONMENTS, TERRAFORM / "bootstrap"):
        assert f"`{one.relative_to(TERRAFORM)}`" in page


def test_providers_know_every_argument(folder: Path) -> None:
    for one in blocks(folder):
        if one.kind in ("resource", "data"):
            kind, _ = one.labels
            assert kind in schemas()[one.kind], f"{one}: run infra/providers.py"
            _check(str(one), one.body, schemas()[one.kind][kind]["arguments"])


def _check(where: str, body: Body, known: dict[str, Any], meta: frozenset[str] = META) -> None:
    given = own(body)
    dynamic = dict(_dynamic(given.pop("dynamic", [])))
    for name, argument in known.items():
        if argument["needed"]:
            assert name in given or name in dynamic, f"{where} needs {name}"
    for name, value in given.items():
        if name in meta:
            continue
        assert name in known, f"{where} has no argument {name}"
        written = is_block(value)
        assert written == ("block" in known[name]), (
            f"{where}: {name} is {'no ' if written else ''}block"
        )
        for inner in value if written else ():
            _check(f"{where}.{name}", inner, known[name]["block"], frozenset())
    for name, contents in dynamic.items():
        assert "block" in known.get(name, {}), f"{where} has no block {name}"
        for inner in contents:
            _check(f"{where}.{name}", inner, known[name]["block"], frozenset())


def _dynamic(found: list[Body]) -> Iterator[tuple[str, list[Body]]]:
    for one in found:
        for label, body in own(one).items():
            yield label.strip('"'), body["content"]


def test_every_reference_is_of_something_that_is_there(folder: Path) -> None:
    there = {one.labels for one in blocks(folder) if one.kind in ("resource", "data")}
    whole = text(folder)
    for data, kind, name, attribute in REFERENCE.findall(whole):
        assert (kind, name) in there, f"{kind}.{name}"
        if attribute:
            known = schemas()["data" if data else "resource"][kind]["attributes"]
            assert attribute in known, f"{kind} has no attribute {attribute}"
    assert set(re.findall(r"\bvar\.(\w+)", whole)) <= set(of_kind(folder, "variable"))
    assert set(re.findall(r"\blocal\.(\w+)", whole)) <= local_names(folder)
    for module, output in re.findall(r"\bmodule\.(\w+)(?:\.(\w+))?", whole):
        source = _source(folder, module)
        assert not output or output in of_kind(source, "output"), f"{module}.{output}"


def test_nothing_is_declared_for_nothing(folder: Path) -> None:
    whole = text(folder)
    for name in of_kind(folder, "variable"):
        assert f"var.{name}" in whole, f"nobody asks for var.{name}"
    for name in local_names(folder):
        assert f"local.{name}" in whole, f"nobody asks for local.{name}"


def test_modules_are_given_what_they_take(folder: Path) -> None:
    for name, call in of_kind(folder, "module").items():
        takes = of_kind(_source(folder, name), "variable")
        given = set(own(call)) - {"source"}
        assert given <= set(takes), name
        assert {one for one, body in takes.items() if "default" not in body} <= given, name


def test_a_module_that_is_given_whole_has_all_that_is_asked_of_it() -> None:
    platform = of_kind(TERRAFORM / "modules" / "platform", "variable")
    for folder in ENVIRONMENTS:
        call = of_kind(folder, "module")["platform"]
        whole = {
            argument: found[1]
            for argument, value in own(call).items()
            if (found := re.fullmatch(r"\$\{module\.(\w+)\}", str(value)))
        }
        assert set(whole) == {"cluster", "redis", "storage"}
        for argument, module in whole.items():
            asked = _members(str(platform[argument]["type"]))
            assert asked
            assert asked <= set(of_kind(_source(folder, module), "output"))


def _members(declared: str) -> set[str]:
    """Names of an object type's members, without those of the objects in it."""
    inner = re.compile(r"object\(\{[^{}]*\}\)")
    (whole,) = re.findall(r"object\(\{(.*)\}\)", declared, flags=re.DOTALL)
    while inner.search(whole):
        whole = inner.sub("any", whole)
    return set(re.findall(r"[\"\s,](\w+)\"?\s*[=:]", f" {whole}"))


def test_variables_and_outputs_say_what_they_are(folder: Path) -> None:
    for name, body in of_kind(folder, "variable").items():
        assert body["description"].strip('"').rstrip().endswith((".", ")")), name
        assert "type" in body, name
    for name, body in of_kind(folder, "output").items():
        assert body["description"].strip('"').endswith("."), name


def test_both_environments_are_asked_for_the_same() -> None:
    dev, production = (set(of_kind(one, "variable")) for one in ENVIRONMENTS)
    assert production - dev == {"redis_shards"}
    assert dev <= production


def test_states_are_kept_remotely_and_locked() -> None:
    keys = set()
    for folder in ENVIRONMENTS:
        (settings,) = (one for one in blocks(folder) if one.kind == "terraform")
        (backend,) = settings.body["backend"]
        kept = backend['"s3"']
        assert kept["use_lockfile"] is True
        assert kept["encrypt"] is True
        keys.add(kept["key"])
    assert len(keys) == len(ENVIRONMENTS)


def test_versions_are_the_same_everywhere() -> None:
    told: dict[str, set[str]] = {}
    for folder in FOLDERS:
        (settings,) = (one for one in blocks(folder) if one.kind == "terraform")
        assert settings.body["required_version"] == '">= 1.11"'
        for needed in settings.body["required_providers"]:
            for name, body in own(needed).items():
                told.setdefault(name, set()).add(str(body))
        kinds = {one.labels[0].partition("_")[0] for one in _made(folder)}
        named = {name for needed in settings.body["required_providers"] for name in own(needed)}
        assert kinds <= named, f"{folder.name} does not say which {kinds - named} it needs"
    assert all(len(versions) == 1 for versions in told.values()), told
    for name, version in schemas()["providers"].items():
        (said,) = told[name]
        (major,) = re.findall(r"~> (\d+)\.", said)
        assert version.startswith(f"{major}."), f"{name}: checked with {version}"


def _made(folder: Path) -> list[Block]:
    return [one for one in blocks(folder) if one.kind in ("resource", "data")]


def test_alarms_are_told_somebody() -> None:
    for folder in FOLDERS:
        for one in _made(folder):
            if one.labels[0] == "aws_cloudwatch_metric_alarm":
                assert one.body["alarm_actions"] == ["${var.alarm_topic_arn}"]


def _source(folder: Path, module: str) -> Path:
    source: str = of_kind(folder, "module")[module]["source"]
    return (folder / source.strip('"')).resolve()


@pytest.mark.skipif(CHECKOV is None, reason="there is no checkov")
def test_checkov_finds_nothing_that_is_not_explained() -> None:
    """Without its makers' service it knows no severities, so nothing at all may fail."""
    assert CHECKOV is not None
    command = [CHECKOV, "-d", str(TERRAFORM), "--framework", "terraform", "--output", "json"]
    done = subprocess.run(
        [*command, "--skip-download", "--quiet"], capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)
    results = told["results"]
    failed = [f"{one['check_id']} {one['resource']}" for one in results["failed_checks"]]
    assert not failed
    assert told["summary"]["passed"] > 100
    assert told["summary"]["parsing_errors"] == 0


def test_what_checkov_is_told_to_leave_alone_is_explained() -> None:
    skips = [
        line
        for one in sorted(TERRAFORM.rglob("*.tf"))
        for line in re.findall(r"checkov:skip=.*", one.read_text())
    ]
    assert skips
    for line in skips:
        assert re.fullmatch(r"checkov:skip=CKV2?_AWS_\d+:\S.{5,}", line), line
