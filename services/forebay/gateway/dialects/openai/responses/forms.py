"""What an answer is held to, and what it may call, as requests for responses say it.

Both are those of chats, spelt on one level.
"""

from typing import Any

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.gateway.formats import FormatName, schema_format
from forebay.gateway.tools import Choice, Function, FunctionName, NamedFunction


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The form of a text: `response_format` as this endpoint spells it, and on one level.

    Attributes:
        type: `text`, `json_object` or `json_schema`.
        name: of the schema, needed by OpenAI; told to nobody here. So is `description`.
        schema: in JSON Schema; only of the type `json_schema`.
        strict: texts are always held to all of it.
    """

    type: str
    name: FormatName | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool, as responses name it: on one level.

    Attributes:
        type: `function`; what else there is is refused, by its name.
        name: by which it is called.
        description: what it does, for the model to read.
        parameters: JSON schema of its arguments, an object; none if not given.
        strict: arguments are always held to all of it.
    """

    type: str
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The tool that must be called, as responses name it."""

    type: str
    name: str | None = None
    tools: Any = None
    mode: Any = None
    server_label: Any = None


class TextOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the text is to be like.

    Attributes:
        format: that it is held to; any if not given.
        verbosity: is not heeded.
    """

    format: TextFormat | None = None
    verbosity: Any = None


def format_of(asked: TextFormat) -> Format | None:
    """What a worker is told of a form; None where any text will do.

    Raises:
        InvalidInput: it is none, or its schema can't be followed; `param` names the place.
    """
    if asked.schema is not None and asked.type != FormatKind.SCHEMA:
        raise InvalidInput(
            "text.format.schema goes with the type 'json_schema' only: leave it out.",
            param="text.format.schema",
        )
    match asked.type:
        case "text":
            return None
        case FormatKind.OBJECT:
            return Format(FormatKind.OBJECT)
        case FormatKind.SCHEMA if asked.schema is not None:
            return schema_format(asked.schema, param="text.format.schema")
        case FormatKind.SCHEMA:
            raise InvalidInput(
                "Missing parameter: 'text.format.schema'.", param="text.format.schema"
            )
        case _:
            raise InvalidInput(
                f"text.format.type is {asked.type[:80]!r}; it must be 'text', 'json_object' or "
                "'json_schema'.",
                param="text.format.type",
            )


def function_of(tool: FunctionTool, at: int) -> Function:
    """A tool as chats have it.

    Raises:
        InvalidInput: it is no function.
    """
    if tool.type != "function":
        raise InvalidInput(
            f"tools[{at}] is of type {tool.type[:80]!r}; models here call functions only.",
            param=f"tools[{at}].type",
        )
    return Function(tool.name, tool.description, tool.parameters, tool.strict)


def choice_of(given: Choice | NamedChoice | None) -> Choice | NamedFunction:
    """What a response lets its model do.

    Raises:
        InvalidInput: it names no function.
    """
    if not isinstance(given, NamedChoice):
        return given or "auto"
    if given.type != "function" or given.name is None:
        raise InvalidInput(
            "tool_choice must be 'none', 'auto', 'required', or name a function: "
            '{"type": "function", "name": "…"}.',
            param="tool_choice",
        )
    return NamedFunction(given.name)
