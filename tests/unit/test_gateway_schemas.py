"""What each task's schema says of its input and output."""

from typing import Any

import pytest

from forebay.contract.rows import Task
from forebay.contract.tensors import TensorSignature, TensorSpec
from forebay.gateway.dialects.replicate.schemas import schemas_of
from forebay.gateway.versions import Serving

ROW = {"$ref": "#/$defs/Text", "$defs": {"Text": {"type": "object", "properties": {"a": {}}}}}
MADE = {"type": "array", "items": {"$ref": "#/$defs/Text"}, "$defs": {"Text": {"type": "string"}}}


SIGNATURE = TensorSignature(
    inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("mask", "BOOL", (-1,), optional=True)),
    outputs=(TensorSpec("y", "INT64", (-1,)),),
    batched=True,
    sample=((1, 3), (1,)),
)


def references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["$ref"]} if "$ref" in schema else set[str]()
        return own.union(*map(references, schema.values()))
    return set[str]().union(*map(references, schema)) if isinstance(schema, list) else set()


@pytest.mark.parametrize("task", Task)
def test_every_task_has_schemas_whose_references_lead_somewhere(task: Task) -> None:
    schemas = schemas_of(task, Serving("d" * 64, schemas=(ROW, MADE), tensors=SIGNATURE))
    for schema in (schemas.input, schemas.output):
        whole = schemas.whole(schema)
        assert references(whole) == {f"#/$defs/{name}" for name in whole.get("$defs", {})}
    openapi = schemas.openapi(title="model", version="v")
    there = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert {"#/components/schemas/Input", "#/components/schemas/Output"} <= there
    assert references(openapi) <= there


@pytest.mark.parametrize(
    ("task", "part", "fields"),
    [
        (Task.EMBEDDING, "TextInput", {"text", "truncate"}),
        (Task.RERANKING, "DocumentsInput", {"query", "documents", "top_n", "truncate"}),
        (Task.ECHO, "EchoInput", {"value"}),
    ],
)
def test_an_inputs_fields_are_those_it_takes_and_each_says_what_it_is_for(
    task: Task, part: str, fields: set[str]
) -> None:
    told = schemas_of(task, None).parts[part]
    assert told["properties"].keys() == fields
    assert told["additionalProperties"] is False
    assert "\n" not in told["description"]
    if task is not Task.ECHO:
        assert told["properties"]["truncate"]["description"].startswith("Cut what is over")


def test_a_python_models_rows_come_alone_or_in_a_list_and_its_parts_do_not_mix() -> None:
    schemas = schemas_of(Task.PYTHON, Serving("d" * 64, schemas=(ROW, MADE)))
    row = {"$ref": "#/$defs/Row"}
    assert schemas.input == {"anyOf": [row, {"type": "array", "items": row}]}
    assert schemas.whole(schemas.input)["$defs"] == {
        "Row": {"$ref": "#/$defs/Row.Text"},
        "Row.Text": {"type": "object", "properties": {"a": {}}},
    }
    assert schemas.whole(schemas.output)["$defs"]["Made.Text"] == {"type": "string"}


def test_of_a_python_model_that_has_not_told_yet_any_object_is_let_pass() -> None:
    assert schemas_of(Task.PYTHON, None).parts["Row"] == {"type": "object"}


def test_of_plain_tensors_each_is_told_by_its_name() -> None:
    schemas = schemas_of(Task.TENSORS, Serving("d" * 64, tensors=SIGNATURE))
    assert list(schemas.input["properties"]) == ["x", "mask"]
    assert schemas.input["required"] == ["x"]
    assert schemas.input["properties"]["x"]["description"] == "FP32 [-1, 3]; -1 is any size."
    assert list(schemas.output["properties"]) == ["y"]
    assert schemas_of(Task.TENSORS, None).input == {"type": "object"}
