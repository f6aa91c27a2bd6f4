"""Tools as requests name them, what the model may do with them, and ids for its calls."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.tools import Tool, ToolCall, Tools
from forebay.gateway.json_schemas import checked

MAX_TOOLS: Final = 128
"""Tools in one request."""

MAX_BYTES: Final = 262_144
"""Of all their schemas."""

NO_PARAMETERS: Final = '{"type":"object","properties":{},"additionalProperties":false}'

FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]

_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 9
"""Letters and digits of a call's id: Mistral's templates take ids of no other length."""


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call.

    Attributes:
        name: by which it is called.
        description: what it does, for the model to read.
        parameters: JSON schema of its arguments, an object; none if not given.
        strict: arguments are always held to all of it.
    """

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool, as chats name it.

    Attributes:
        type: `function`; what else there is is refused, by its name.
        function: which.
    """

    type: str
    function: Function | None = None
    custom: Any = None


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function by its name."""

    name: str


class NamedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tool that must be called, as chats name it.

    Attributes:
        type: `function`; what else there is is refused, by its name.
        function: which.
    """

    type: str
    function: NamedFunction | None = None
    custom: Any = None
    allowed_tools: Any = None


Choice = Literal["none", "auto", "required"]


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call in a chat has called.

    Attributes:
        name: of the function.
        arguments: a JSON object, as text.
        parsed_arguments: not looked at; OpenAI's client sends it back from what it has parsed.
    """

    name: str
    arguments: str
    parsed_arguments: Any = None


class Called(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that the assistant has made earlier in a chat."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def functions_of(tools: Sequence[FunctionTool], *, param: str = "tools") -> list[Function]:
    """The functions of a chat's tools.

    Raises:
        InvalidInput: one is no function; `param` names it.
    """
    found: list[Function] = []
    for at, tool in enumerate(tools):
        if tool.type != "function" or tool.function is None or tool.custom is not None:
            raise InvalidInput(
                f"{param}[{at}] must be of type 'function' and have a 'function': models here call "
                "no other tools.",
                param=f"{param}[{at}].type",
            )
        found.append(tool.function)
    return found


def choice_of(given: Choice | NamedChoice | None) -> Choice | NamedFunction:
    """What a chat lets its model do.

    Raises:
        InvalidInput: it names no function.
    """
    if isinstance(given, NamedChoice):
        if given.type != "function" or given.function is None:
            raise InvalidInput(
                "tool_choice must be 'none', 'auto', 'required', or name a function: "
                '{"type": "function", "function": {"name": "…"}}.',
                param="tool_choice",
            )
        return given.function
    return given or "auto"


def tools_of(
    functions: Sequence[Function],
    choice: Choice | NamedFunction,
    *,
    parallel: bool | None,
    inside: str = ".function",
) -> Tools | None:
    """What a worker is told; None where nothing may be called.

    Args:
        functions: of the request's `tools`, in order.
        choice: whether one may be called, or must be; or the one that must be.
        parallel: whether several may be called at once; None is yes.
        inside: where in an item of `tools` a function's fields are.

    Raises:
        InvalidInput: there are too many, two have one name, a schema can't be followed, or the
            choice is of none of them; `param` names the place.
    """
    if not functions:
        if choice in ("none", "auto"):
            return None
        raise InvalidInput("tool_choice needs tools to choose from.", param="tool_choice")
    if len(functions) > MAX_TOOLS:
        raise InvalidInput(
            f"tools has {len(functions):,} items; {MAX_TOOLS} are the most.", param="tools"
        )
    tools: dict[str, Tool] = {}
    for at, function in enumerate(functions):
        where = f"tools[{at}]{inside}"
        if function.name in tools:
            raise InvalidInput(
                f"{where}.name: {function.name!r} is the name of another tool already.",
                param=f"{where}.name",
            )
        parameters = _parameters(function, f"{where}.parameters")
        tools[function.name] = Tool(function.name, parameters, function.description)
    size = sum(len(tool.parameters) for tool in tools.values())
    if size > MAX_BYTES:
        raise InvalidInput(
            f"The parameters of all tools have {size:,} bytes; {MAX_BYTES:,} are the most.",
            param="tools",
        )
    if choice == "none":
        return None
    only = choice.name if isinstance(choice, NamedFunction) else None
    if only is not None and only not in tools:
        raise InvalidInput(f"tool_choice: no tool is named {only[:80]!r}.", param="tool_choice")
    return Tools(
        tuple(tools.values()),
        required=choice == "required",
        only=only,
        parallel=parallel is not False,
    )


def _parameters(function: Function, where: str) -> str:
    if not function.parameters:
        return NO_PARAMETERS
    if function.parameters.get("type") != "object":
        raise InvalidInput(
            f"{where} must be the schema of an object: arguments have names.",
            param=f"{where}.type",
        )
    return checked(function.parameters, param=where)


def calls_of(called: Sequence[Called], *, where: str) -> tuple[ToolCall, ...]:
    """Calls of an assistant's message.

    Args:
        called: as they came.
        where: the field that holds them.

    Raises:
        InvalidInput: arguments are no JSON object; `param` names them.
    """
    for at, call in enumerate(called):
        try:
            _object.decode(call.function.arguments)
        except msgspec.MsgspecError:
            param = f"{where}[{at}].function.arguments"
            raise InvalidInput(f"{param} must be the text of a JSON object.", param=param) from None
    return tuple(ToolCall(call.function.name, call.function.arguments, call.id) for call in called)


def call_id(text: str, row: int, index: int) -> str:
    """The id of a call, the same whoever tells it, and however often.

    Args:
        text: id of the answer or the prediction.
        row: which of its texts.
        index: which call of that.
    """
    number = int.from_bytes(hashlib.sha256(f"{text}/{row}/{index}".encode()).digest()[:8])
    letters: list[str] = []
    for _ in range(_ID_LENGTH):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(letters)
