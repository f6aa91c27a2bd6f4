"""The JSON schema of what a model takes as `input` and gives as `output`, by its task."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from forebay.contract.rows import Task
from forebay.contract.tensors import TensorSignature, TensorSpec
from forebay.gateway import reranking, tensor_json, zero_shot
from forebay.gateway.dialects.replicate import inputs, outputs
from forebay.gateway.versions import Serving
from forebay.runtime.schema import DIALECT, attributes, summary

TAKEN: Final[dict[Task, tuple[Any, ...]]] = {
    Task.EMBEDDING: (inputs.TextInput,),
    Task.CLASSIFICATION: (inputs.ClassesInput,),
    Task.RERANKING: (inputs.DocumentsInput, inputs.ClassesInput),
    Task.TOKEN_CLASSIFICATION: (inputs.SpansInput,),
    Task.ZERO_SHOT: (inputs.LabelsInput,),
    Task.IMAGE_CLASSIFICATION: (inputs.ImageInput,),
    Task.GENERATION: (inputs.GenerationInput,),
    Task.ECHO: (inputs.EchoInput,),
}
"""What an `input` may be, by task; python models, pipelines and plain tensors say it themselves."""

GIVEN: Final[dict[Task, tuple[Any, ...]]] = {
    Task.EMBEDDING: (list[float], list[list[float]]),
    Task.CLASSIFICATION: (outputs.Label, list[outputs.Label], list[list[outputs.Label]]),
    Task.RERANKING: (
        list[reranking.Ranked],
        outputs.Label,
        list[outputs.Label],
        list[list[outputs.Label]],
    ),
    Task.TOKEN_CLASSIFICATION: (
        list[outputs.Token],
        list[outputs.Group],
        list[list[outputs.Token]],
        list[list[outputs.Group]],
    ),
    Task.ZERO_SHOT: (zero_shot.Ranking, list[zero_shot.Ranking]),
    Task.IMAGE_CLASSIFICATION: (list[outputs.Label], list[list[outputs.Label]]),
    Task.GENERATION: (str, list[str]),
    Task.ECHO: (Any,),
}
"""What an `output` may be: that of one item, or of a list of them."""

PIECES: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
}
"""A text, as cog's models of language tell it: a list of its pieces, to be joined."""

LOCAL: Final = "#/$defs/"
OPENAPI: Final = "#/components/schemas/"


class Schemas(msgspec.Struct, frozen=True):
    """What a model takes and gives.

    Attributes:
        input: schema of the `input`, whose own parts are in `parts`.
        output: likewise of the `output`.
        parts: schemas that the others refer to by `#/$defs/NAME`.
    """

    input: dict[str, Any]
    output: dict[str, Any]
    parts: dict[str, Any]

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """One of them by itself, in JSON Schema 2020-12, with the parts that it needs."""
        needed: dict[str, Any] = {}
        waiting: list[Any] = [schema]
        while waiting:
            for name in _references(waiting.pop()):
                if name not in needed:
                    needed[name] = self.parts[name]
                    waiting.append(needed[name])
        return {"$schema": DIALECT, **schema, **({"$defs": needed} if needed else {})}

    def openapi(self, *, title: str, version: str) -> dict[str, Any]:
        """Both as cog tells them: an OpenAPI document with the components `Input` and `Output`."""
        components = {**self.parts, "Input": self.input, "Output": self.output}
        return {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version},
            "paths": {},
            "components": {"schemas": _moved(components)},
        }


def schemas_of(task: Task, serving: Serving | None) -> Schemas:
    """What a model takes and gives.

    Args:
        task: the model's.
        serving: what serves it; of a python model or a pipeline it has the schemas that its class
            describes, of plain tensors their signature. Where these are not known here, any object
            is let pass.
    """
    if task in (Task.PYTHON, Task.PIPELINE):
        row, output = {"type": "object"}, dict[str, Any]()
        if serving is not None and serving.schemas is not None:
            row, output = serving.schemas
        return _of_rows(row, output)
    if task is Task.TENSORS:
        return _of_tensors(None if serving is None else serving.tensors)
    taken, given = TAKEN[task], GIVEN[task]
    types = (*taken, *given)
    schemas, parts = msgspec.json.schema_components(types, ref_template=f"{LOCAL}{{name}}")
    for struct in _structs(types):
        _tell(parts[struct.__name__], struct)
    return Schemas(
        _any_of(schemas[: len(taken)]),
        _any_of(schemas[len(taken) :]),
        {name: _summed_up(part) for name, part in parts.items()},
    )


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _of_rows(row: dict[str, Any], output: dict[str, Any]) -> Schemas:
    """Schemas of a python model or pipeline: of one row, or of a list of them."""
    parts: dict[str, Any] = {}
    several: list[dict[str, Any]] = []
    for name, schema in (("Row", row), ("Made", output)):
        # Both may have parts of one name, so each one's get a prefix.
        own = {key: value for key, value in schema.items() if key != "$defs"}
        inner = {f"{name}.{key}": value for key, value in schema.get("$defs", {}).items()}
        prefix = f"{LOCAL}{name}."
        parts |= {key: _moved(value, to=prefix) for key, value in inner.items()}
        parts[name] = _moved(own, to=prefix)
        reference = {"$ref": f"{LOCAL}{name}"}
        several.append({"anyOf": [reference, {"type": "array", "items": reference}]})
    return Schemas(several[0], several[1], parts)


def _of_tensors(signature: TensorSignature | None) -> Schemas:
    """Schemas of a model of plain tensors: an object that has each by its name."""
    if signature is None:
        return Schemas({"type": "object"}, {"type": "object"}, {})
    (reference,), parts = msgspec.json.schema_components(
        (tensor_json.TensorObject,), ref_template=f"{LOCAL}{{name}}"
    )
    _tell(parts[tensor_json.TensorObject.__name__], tensor_json.TensorObject)

    def schema(tensors: Sequence[TensorSpec]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                tensor.name: {
                    "anyOf": [{"type": "array"}, reference],
                    "description": f"{tensor.datatype} {list(tensor.shape)}; -1 is any size.",
                }
                for tensor in tensors
            },
            "required": [tensor.name for tensor in tensors if not tensor.optional],
            "additionalProperties": False,
        }

    told = {name: _summed_up(part) for name, part in parts.items()}
    return Schemas(schema(signature.inputs), schema(signature.outputs), told)


def _structs(types: Sequence[Any]) -> list[type[msgspec.Struct]]:
    """Every struct in some types."""
    found: dict[type[msgspec.Struct], None] = {}

    def look(kind: msgspec.inspect.Type) -> None:
        match kind:
            case msgspec.inspect.StructType(cls=cls, fields=fields):
                if cls not in found:
                    found[cls] = None
                    for field in fields:
                        look(field.type)
            case msgspec.inspect.UnionType(types=several):
                for one in several:
                    look(one)
            case (
                msgspec.inspect.ListType(item_type=item)
                | msgspec.inspect.VarTupleType(item_type=item)
            ):
                look(item)
            case _:
                pass

    for kind in msgspec.inspect.multi_type_info(types):
        look(kind)
    return list(found)


def _tell(part: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Describe a struct's fields by its docstring, and those of what it inherits from."""
    told = {
        name: text for kind in reversed(struct.__mro__) for name, text in attributes(kind).items()
    }
    for name, text in told.items():
        if name in part.get("properties", {}):
            part["properties"][name] = {**part["properties"][name], "description": text}


def _summed_up(part: dict[str, Any]) -> dict[str, Any]:
    described = "description" in part
    return {**part, "description": summary(part["description"])} if described else part


def _references(schema: Any) -> list[str]:
    """Names of the parts that a schema refers to."""
    if isinstance(schema, dict):
        own = schema.get("$ref")
        inner = [name for value in schema.values() for name in _references(value)]
        return [own.removeprefix(LOCAL), *inner] if isinstance(own, str) else inner
    return [name for item in schema for name in _references(item)] if type(schema) is list else []


def _moved(schema: Any, *, to: str = OPENAPI) -> Any:
    """A schema whose parts are elsewhere."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, to=to) for key, value in schema.items()}
        if isinstance(own := moved.get("$ref"), str):
            moved["$ref"] = to + own.removeprefix(LOCAL)
        return moved
    return [_moved(item, to=to) for item in schema] if type(schema) is list else schema
