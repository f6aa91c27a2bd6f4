"""From an event to a model's input: its data as they are, or a template filled in.

In a template a string that begins with a dollar stands for a part of the event: `$data` for its
data, `$data.order.text` for what is in them, `$subject` for an attribute. It becomes what is there,
of whatever type; `$$` begins a string that has a dollar of its own. Everything else is as it says.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cloudevents.core.base import BaseCloudEvent

from forebay.contract.errors import InvalidInput

DATA: Final = "data"

_REFERENCE = re.compile(r"\$(?P<whole>[a-z0-9]+)(?P<path>(?:\.[^.]+)*)")


def input_of(event: BaseCloudEvent, template: Mapping[str, Any] | None) -> bytes:
    """A model's input as JSON.

    Args:
        event: as it came. Its data are text, what JSON knows, or bytes, which become a data URL of
            its `datacontenttype`.
        template: one that `check_template` has let pass; None takes the data.

    Raises:
        InvalidInput: the event has no data, or not what the template asks for.
    """
    if template is None:
        return _json(_data(event))
    return _json(_filled(template, event))


def check_template(value: Any, path: str = "") -> None:
    """Refuse a template that no event could fill in.

    Raises:
        InvalidInput: `param` is the path of what is wrong.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_template(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            check_template(inner, path)
    elif isinstance(value, str) and value.startswith("$") and not value.startswith("$$"):
        found = _REFERENCE.fullmatch(value)
        if found is None or (found["path"] and found["whole"] != DATA):
            raise InvalidInput(
                f"{value!r} stands for nothing: `$data`, `$data.KEY.KEY` and `$ATTRIBUTE` stand "
                "for parts of an event, and `$$` for a dollar.",
                param=path,
            )
    elif not isinstance(value, str | int | float | bool):
        raise InvalidInput("A date is nothing JSON has: write a text.", param=path)


def _filled(value: Any, event: BaseCloudEvent) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, event) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, event) for inner in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$"):
        return value[1:]
    whole, *path = value[1:].split(".")
    return _part(event, value, path) if whole == DATA else _attribute(event, value, whole)


def _part(event: BaseCloudEvent, reference: str, path: list[str]) -> Any:
    part = _data(event)
    for key in path:
        if isinstance(part, dict) and key in part:
            part = part[key]
        elif isinstance(part, list) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        else:
            raise InvalidInput(f"The event has no {reference[1:]}, which its trigger asks for.")
    return part


def _attribute(event: BaseCloudEvent, reference: str, name: str) -> Any:
    value = event.get_attributes().get(name)
    if value is None:
        raise InvalidInput(f"The event has no attribute {name}, which its trigger asks for.")
    return value


def _data(event: BaseCloudEvent) -> Any:
    data: Any = event.get_data()
    if data is None:
        raise InvalidInput("The event has no data, and so no input for the model.")
    if isinstance(data, bytes):
        kind = event.get_datacontenttype() or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return data


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
