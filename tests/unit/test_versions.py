"""Versions in models.toml: what they inherit, what they are called, and what is refused."""

from pathlib import Path

import pytest

from forebay.cli.shares import filled, read_shares
from forebay.contract.errors import ConfigurationError, InvalidInput, NotFound
from forebay.contract.model import Precision
from forebay.contract.prediction import PredictionId
from forebay.contract.versions import Version, model_of, served_name
from forebay.gateway.versions import Serving, find
from forebay.lanes.traffic import Change, effective
from forebay.runtime.catalog import Catalog, read
from tests.unit.test_gateway_versions import DIGEST, OTHER, Fixed

ROOT = Path(__file__).parents[2]

CATALOG = """
[models.minilm]
task = "embedding"
backend = "onnx"
source = "somewhere"
batch.max_rows = 8

[models.minilm.versions.v2]
weight = 10
precision = "fp32"
batch.max_tokens = 512

[models.minilm.versions.v3]
shadow = true
sample = 0.1

[models.minilm.versions.idle]
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "models.toml").write_text(CATALOG)
    return read(tmp_path / "models.toml")


def test_a_version_is_the_models_own_table_with_its_own_over_it(catalog: Catalog) -> None:
    spec = catalog.find("minilm@v2")
    assert (spec.name, spec.version, spec.source) == ("minilm@v2", "v2", "somewhere")
    assert (spec.precision, spec.batch.max_rows, spec.batch.max_tokens) == (Precision.FP32, 8, 512)
    assert not spec.versions


def test_the_models_own_table_is_a_version_under_the_models_name(catalog: Catalog) -> None:
    model, own = catalog.find("minilm"), catalog.find("minilm@default")
    assert model.versions["v3"] == Version(shadow=True, sample=0.1)
    assert (own.name, own.versions) == ("minilm", {})
    assert catalog.served["minilm"] == own
    assert list(catalog.served) == ["minilm", "minilm@v2", "minilm@v3", "minilm@idle"]
    assert list(catalog.models) == ["minilm"]


def test_what_weights_leave_is_for_the_models_own_table(catalog: Catalog) -> None:
    shares = {"default": 90.0, "v2": 10.0, "v3": 0.0, "idle": 0.0}
    assert catalog.models["minilm"].shares == shares


def test_workers_are_started_for_what_gets_requests_or_copies(catalog: Catalog) -> None:
    assert [spec.name for spec in catalog.wanted] == ["minilm", "minilm@v2", "minilm@v3"]


def test_an_unknown_version_is_told_which_there_are(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match=r"has no version 'v9'\. Versions: default, v2, v3"):
        catalog.find("minilm@v9")
    with pytest.raises(NotFound, match="There is no model 'other@v2' here"):
        catalog.find("other@v2")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weight = 10", "weigt = 10", "line 9: models.minilm.versions.v2.weigt: there is no such"),
        ("weight = 10", "weight = 101", "line 9: models.minilm.versions.v2.weight: expected"),
        ("weight = 10", "weight = 1\nshadow = true", "versions.v2.shadow: must be false where"),
        ("fp32", "fp33", "line 10: models.minilm.versions.v2.precision: invalid enum value 'fp33'"),
        ("sample = 0.1", "sample = 0", "line 15: models.minilm.versions.v3.sample: expected"),
        ("sample = 0.1", 'task = "echo"', "versions.v3.task: that is the model's, for all"),
        ("sample = 0.1", "versions.a.weight = 1", "versions.v3.versions: that is the model's"),
        ("sample = 0.1", 'name = "other"', "versions.v3.name: there is no such field"),
        ("sample = 0.1", "batch.max_rows = 0", "versions.v3.batch.max_rows: must be at least 1"),
        ("sample = 0.1", 'backend = "echo"', "versions.v3.backend: must be one that runs the task"),
        ("shadow = true", "weight = 95", "weight: must be less: all weights come to 100"),
        ("versions.idle", "versions.Idle", "models.minilm.versions.Idle: a version's name is 1 to"),
        (
            "versions.idle",
            "versions.default",
            "minilm.versions.default: must be named otherwise",
        ),
        ("batch.max_rows = 8", 'version = "a b"', "models.minilm.version: must be 1 to 31 of"),
        ("batch.max_rows = 8", "versions.x = 1", "models.minilm.versions.x: must be a table"),
    ],
)
def test_what_is_wrong_with_a_version_is_told_by_field_and_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (tmp_path / "models.toml").write_text(CATALOG.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path / "models.toml")
    assert said in caught.value.message


def test_an_id_leads_to_the_lanes_of_its_version() -> None:
    id_ = PredictionId.new(served_name("minilm", "v2"))
    assert PredictionId.parse(id_.text) == id_
    assert (id_.model, model_of(id_.model)) == ("minilm@v2", "minilm")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("minilm", "minilm"),
        ("minilm@v2", "minilm@v2"),
        (f"minilm:{OTHER[:12]}", "minilm@v2"),
        (f"minilm:{DIGEST}", "minilm"),
        (f"minilm@v2:{OTHER[:12]}", "minilm@v2"),
        (OTHER[:12], "minilm@v2"),
    ],
)
def test_a_version_is_meant_by_its_name_or_its_digest(
    catalog: Catalog, wanted: str, name: str
) -> None:
    versions = Fixed(**{"minilm": DIGEST, "minilm@v2": OTHER, "minilm@v3": DIGEST})
    assert find(catalog, versions, wanted, param="version").name == name


def test_a_digest_of_no_version_is_told_which_there_are(catalog: Catalog) -> None:
    versions = Fixed(**{"minilm": DIGEST, "minilm@v2": OTHER})
    with pytest.raises(NotFound) as caught:
        find(catalog, versions, "minilm:" + "a" * 12, param="version")
    assert "default is 0123456789ab, v2 is fedcba987654, v3 is not known here" in str(caught.value)
    with pytest.raises(NotFound, match="no version '0123456789ab' here: fedcba987654 serves"):
        find(catalog, versions, f"minilm@v2:{DIGEST[:12]}", param="version")
    assert versions.serving(catalog.find("minilm@v2")) == Serving(OTHER)


@pytest.mark.parametrize(
    ("set_", "holds"),
    [
        ({}, {"default": 90, "v2": 10, "v3": 0, "idle": 0}),
        ({"default": 50, "v2": 50}, {"default": 50, "v2": 50, "v3": 0, "idle": 0}),
        ({"default": 20, "v2": 20, "gone": 60}, {"default": 50, "v2": 50, "v3": 0, "idle": 0}),
        ({"gone": 100}, {"default": 90, "v2": 10, "v3": 0, "idle": 0}),
    ],
)
def test_shares_of_versions_that_a_catalog_lacks_go_to_the_others(
    catalog: Catalog, set_: dict[str, float], holds: dict[str, float]
) -> None:
    assert effective(catalog.models["minilm"], Change("1-0", set_)) == holds


def test_the_example_of_the_docs_is_a_catalog_of_two_versions_and_a_shadow(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "versions.md").read_text("utf-8")
    (tmp_path / "models.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    model = read(tmp_path / "models.toml").models["minilm"]
    assert model.shares == {"default": 90.0, "fp32": 10.0, "small": 0.0}
    assert model.versions["small"].shadow


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ({"v2": 20}, {"v1": 60, "v2": 20, "v3": 20}),
        ({"v2": 100}, {"v1": 0, "v2": 100, "v3": 0}),
        ({"v1": 0, "v3": 0}, {"v1": 0, "v2": 100, "v3": 0}),
        ({"v1": 50, "v2": 50, "v3": 0}, {"v1": 50, "v2": 50, "v3": 0}),
    ],
)
def test_versions_that_are_not_named_share_the_rest_as_before(
    given: dict[str, float], shares: dict[str, float]
) -> None:
    assert filled({"v1": 75.0, "v2": 0.0, "v3": 25.0}, given) == shares


def test_what_had_nothing_shares_nothing_but_the_first_of_them() -> None:
    had = {"v1": 0.0, "v2": 100.0, "v3": 0.0}
    assert filled(had, {"v2": 40}) == {"v1": 60, "v2": 40, "v3": 0}


@pytest.mark.parametrize("given", [{"v1": 60, "v2": 60}, {"v1": 10, "v2": 10, "v3": 10}])
def test_shares_that_do_not_come_to_100_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="and not to 100 %"):
        filled({"v1": 75.0, "v2": 0.0, "v3": 25.0}, given)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("v2", "is no VERSION=PERCENT"),
        ("v2=", "is no VERSION=PERCENT"),
        ("v2=101", "is no VERSION=PERCENT"),
        ("v2=nan", "is no VERSION=PERCENT"),
        ("v9=1", "no version 'v9'. Versions: default, v2, v3, idle"),
    ],
)
def test_a_share_that_is_none_is_refused(catalog: Catalog, word: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_shares([word], catalog.models["minilm"])
    assert said in caught.value.message
    with pytest.raises(InvalidInput, match="more than once"):
        read_shares(["v2=1", "v2=2%"], catalog.models["minilm"])
