"""Chats to prompts, by a model's own template: what transformers' `apply_chat_template` does.

A template comes with weights, so it is run in jinja2's sandbox, and sees nothing but strings,
numbers, lists and dictionaries. Its words are those of transformers: `messages`, `tools`,
`add_generation_prompt`, the special tokens, `raise_exception`, `strftime_now`, and a `tojson` that
escapes nothing for HTML (https://huggingface.co/docs/transformers/chat_templating).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.generation import Message
from forebay.contract.tools import Tool

_SHOWN = 300
"""Characters of a template's own message that a client sees."""


class _RefusedError(TemplateError):
    """The template's own `raise_exception`."""


class ChatTemplate:
    """A model's template, ready to render chats.

    Args:
        text: the template, as the artifact has it.
        bos: text of the token that begins a text, if the model has one.
        eos: of the one that ends it.
        now: for templates that tell the model what day it is.

    Raises:
        ArtifactError: it is no template that jinja2 can read.
    """

    def __init__(
        self,
        text: str,
        *,
        bos: str | None = None,
        eos: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        environment = _environment(now)
        try:
            self._template: Template = environment.from_string(text)
        except (TemplateError, RecursionError) as error:
            raise ArtifactError(
                f"The model's chat template can't be read: {_said(error)}. Correct "
                "`chat_template.jinja` in its source, and build it again."
            ) from error
        # As in transformers, a token that the model lacks is not defined, rather than none.
        tokens = {"bos_token": bos, "eos_token": eos}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt of a chat, special tokens in it: tokenize it without adding any.

        Args:
            messages: the chat.
            tools: that the model may call, where its template knows of any.
            add_generation_prompt: end with what begins the assistant's turn.

        Raises:
            InvalidInput: the template refuses the chat, for instance for the order of its roles, or
                can't do with what the messages hold; its own words are in the message.
        """
        try:
            return self._template.render(
                messages=[_plain(message) for message in messages],
                tools=None if tools is None else [_function(tool) for tool in tools],
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )
        except _RefusedError as error:
            raise InvalidInput(
                f"The model's chat template refuses this chat: {_said(error)}", param="messages"
            ) from error
        # Whatever Python raises on what a template does with a chat.
        except (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError,
                TypeError, ValueError, OverflowError) as error:  # fmt: skip
            raise InvalidInput(
                f"The model's chat template can't render this chat ({_said(error)}): send messages "
                "of the roles and the form that the model knows.",
                param="messages",
            ) from error


def _plain(message: Message) -> dict[str, Any]:
    """A message as templates know it: arguments of calls are objects there, not their JSON."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        told["name"] = message.name
    if message.answers is not None:
        told["tool_call_id"] = message.answers
    if message.calls:
        told["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.calls
        ]
    return told


def _function(tool: Tool) -> dict[str, Any]:
    """A tool as templates know it."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    return {
        "type": "function",
        "function": {**function, "parameters": json.loads(tool.parameters)},
    }


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__)[:_SHOWN]


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    """jinja2 as transformers sets it up."""

    def strftime_now(form: str) -> str:
        return now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    known: dict[str, Any] = {
        "raise_exception": _raise_exception,
        "strftime_now": strftime_now,
        "namespace": _PlainNamespace,
        "dict": _PlainDict(),
    }
    environment.filters["tojson"] = _to_json
    environment.globals.update(known)
    return environment


def _raise_exception(message: str) -> None:
    raise _RefusedError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _PlainDict:
    """Makes dictionaries, and is not the type itself, which leads on to all others."""

    def __call__(self, *given: Any, **fields: Any) -> dict[Any, Any]:
        return dict(*given, **fields)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """A dictionary with one value for all keys."""
        return dict.fromkeys(keys, value)


class _PlainNamespace(Namespace):
    """A namespace that takes no names of Python's internals."""

    def __init__(*arguments: Any, **attributes: Any) -> None:
        # As jinja2's: `namespace(self=…)` is a name like any other.
        self, given = arguments[0], dict(*arguments[1:], **attributes)
        for name in given:
            _PlainNamespace._check(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _PlainNamespace._check(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"A namespace keeps no name that begins with '_': {name!r}.")


class _Generation(Extension):
    """Lets `{% generation %}` through, by which training finds the assistant's words."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands between the tags, as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
