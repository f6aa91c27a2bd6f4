"""What msgspec's validation found, in terms of what a client sent."""

import re

from forebay.contract.errors import InvalidInput

_WHERE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def explain(text: str, *, within: str = "") -> InvalidInput:
    """The error for what msgspec's validation found, in terms of the request's fields.

    Args:
        text: of the `msgspec.ValidationError`.
        within: the field that holds what was read, where it is a part of a body.
    """
    match = _WHERE.fullmatch(text)
    what, path = (text, "") if match is None else (match["what"], match["path"] or "")
    # Of an object whose keys are anybody's, msgspec doesn't say which value is wrong.
    path = path.removesuffix("[...]")
    where = f"{within}{path}" if within else path.removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(what):
        return unknown_parameter(_join(where, unknown["name"][:80]))
    if missing := _MISSING.fullmatch(what):
        param = _join(where, missing["name"])
        return InvalidInput(f"Missing parameter: {param!r}.", param=param)
    what = what[:1].lower() + what[1:]
    if not where:
        return InvalidInput(f"The body is of the wrong shape: {what}.")
    return InvalidInput(f"{where}: {what}.", param=where)


def unknown_parameter(param: str) -> InvalidInput:
    """The error for a field that nothing here knows."""
    return InvalidInput(f"Unknown parameter: {param!r}.", param=param)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
