"""JSON bodies: decoding them straight into typed structs, and saying what is wrong with one."""

import re
from typing import Any, Final, TypeVar

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.gateway.errors import MalformedBody

T = TypeVar("T")

MAX_DEPTH: Final = 128
"""Deepest nesting of a value that is kept as it came: whoever reads it back must not overflow."""

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, within: str = "") -> T:
    """Decode JSON.

    Args:
        decoder: of the type that is expected.
        body: the JSON.
        within: the field that holds it, where it is a part of a body.

    Raises:
        MalformedBody: it is not JSON.
        InvalidInput: it is JSON of another shape; `param` names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(str(error), within=within) from None
    except RecursionError:
        raise MalformedBody("The body nests too deeply.") from None
    except UnicodeDecodeError:
        raise MalformedBody("The body is not JSON: it is not UTF-8.") from None
    except ValueError as error:
        raise MalformedBody(f"The body is not JSON: {error}.") from None


def check_depth(value: Any, *, param: str) -> None:
    """Refuse a value that nests more deeply than `MAX_DEPTH`.

    Raises:
        InvalidInput: it does.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
        if not level:
            return
    raise InvalidInput(f"{param} nests more than {MAX_DEPTH} levels deep.", param=param)


def explain(text: str, *, within: str = "") -> InvalidInput:
    """The error for what msgspec's validation found, in terms of the request's fields."""
    match = _WHERE.fullmatch(text)
    what, path = (text, "") if match is None else (match["what"], match["path"] or "")
    where = f"{within}{path}" if within else path.removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(what):
        param = _join(where, unknown["name"][:80])
        return InvalidInput(f"Unknown parameter: {param!r}.", param=param)
    if missing := _MISSING.fullmatch(what):
        param = _join(where, missing["name"])
        return InvalidInput(f"Missing parameter: {param!r}.", param=param)
    what = what[:1].lower() + what[1:]
    if not where:
        return InvalidInput(f"The body is of the wrong shape: {what}.")
    return InvalidInput(f"{where}: {what}.", param=where)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
