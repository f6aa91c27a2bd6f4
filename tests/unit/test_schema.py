"""The schema of `models.toml` that editors read."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from forebay.contract.model import NOT_IN_A_FILE, ModelSpec
from forebay.runtime.catalog import read
from forebay.runtime.schema import catalog_schema, catalog_schema_text
from tests.unit.test_cli import invoke

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "models.schema.json"


def fields(name: str) -> dict[str, Any]:
    part: dict[str, Any] = catalog_schema()["$defs"][name]["properties"]
    return part


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text("utf-8") == catalog_schema_text(), (
        "run `forebay models schema > docs/models.schema.json`"
    )


def test_it_can_be_printed() -> None:
    assert invoke("models", "schema").output == catalog_schema_text()


@pytest.mark.parametrize(
    "struct", ["ModelSpec", "BatchLimits", "LaneLimits", "BuildSpec", "DistillSpec"]
)
def test_every_field_says_what_it_is_for(struct: str) -> None:
    for name, field in fields(struct).items():
        assert field.get("description"), name
        assert "\n" not in field["description"]
        assert "null" not in str(field), name


def test_it_has_every_field_that_a_file_may_set_and_no_other() -> None:
    assert set(fields("ModelSpec")) == set(ModelSpec.__struct_fields__) - NOT_IN_A_FILE
    assert catalog_schema()["$defs"]["ModelSpec"]["additionalProperties"] is False


def test_a_description_of_several_lines_is_told_whole() -> None:
    told = fields("ModelSpec")["threads"]["description"]
    assert told.startswith("Threads of one forward pass; 0 takes all cores. A worker runs as many")
    assert told.endswith("and hardly slower for a single row.")


def test_every_reference_leads_somewhere() -> None:
    schema = catalog_schema()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [one for inner in value.values() for one in references(inner)]
        return [one for inner in value for one in references(inner)] if type(value) is list else []

    found = references(schema)
    assert "#/$defs/ModelSpec" in found
    assert {reference.removeprefix("#/$defs/") for reference in found} == set(schema["$defs"])


def test_the_shipped_catalog_names_the_schema_where_editors_look_for_it() -> None:
    catalog = ROOT / "models.toml"
    first = catalog.read_text("utf-8").splitlines()[0]
    assert (ROOT / first.removeprefix("#:schema ")).resolve() == PUBLISHED
    assert read(catalog).models.keys() == tomllib.loads(catalog.read_text("utf-8"))["models"].keys()
