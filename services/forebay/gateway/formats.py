"""What a text is to be held to, as requests of every dialect say it: OpenAI's `response_format`."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.gateway.json_schemas import checked

MAX_REGEX: Final = 4_096
"""Characters of a regular expression."""

FormatName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class JsonSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schema and what it is called.

    Attributes:
        name: needed by OpenAI; told to nobody here.
        schema: in JSON Schema; any object if not given.
        description: likewise told to nobody: say in a message what the model should write.
        strict: texts are always held to all of it.
    """

    name: FormatName
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of a text.

    Attributes:
        type: `text`, `json_object`, `json_schema` or `regex`.
        json_schema: of the type of that name.
        regex: likewise; a regular expression that all of the text matches.
    """

    type: str
    json_schema: JsonSchema | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=MAX_REGEX)] | None = None


def format_of(given: ResponseFormat | None, *, within: str = "") -> Format | None:
    """What a worker is told of a `response_format`; None where any text will do.

    Args:
        given: as it came.
        within: the field that holds it, where that is a part of a body; ends with a dot.

    Raises:
        InvalidInput: it is none, or its schema can't be followed; `param` names the place.
    """
    where = f"{within}response_format"
    if given is None:
        return None
    for field in ("json_schema", "regex"):
        if getattr(given, field) is not None and given.type != field:
            raise InvalidInput(
                f"{where}.{field} goes with the type {field!r} only: leave it out.",
                param=f"{where}.{field}",
            )
    match given.type:
        case "text":
            return None
        case FormatKind.OBJECT:
            return Format(FormatKind.OBJECT)
        case FormatKind.SCHEMA if given.json_schema is not None:
            return schema_format(given.json_schema.schema, param=f"{where}.json_schema.schema")
        case FormatKind.REGEX if given.regex is not None:
            return Format(FormatKind.REGEX, given.regex)
        case FormatKind.SCHEMA | FormatKind.REGEX:
            field = f"{where}.{given.type}"
            raise InvalidInput(f"Missing parameter: {field!r}.", param=field)
        case _:
            raise InvalidInput(
                f"{where}.type is {given.type[:80]!r}; it must be 'text', 'json_object', "
                "'json_schema' or 'regex'.",
                param=f"{where}.type",
            )


def schema_format(schema: dict[str, Any] | None, *, param: str) -> Format:
    """What a worker is told of a JSON schema.

    Args:
        schema: as it came; None is any object.
        param: the field that it came in.

    Raises:
        InvalidInput: it can't be followed; `param` names the place.
    """
    if schema is None:
        return Format(FormatKind.OBJECT)
    return Format(FormatKind.SCHEMA, checked(schema, param=param))
