"""What is wrong in a TOML file, in people's words, and the line where it is."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import NOT_IN_A_FILE

Field = tuple[str, ...]
"""The keys that lead to a value: `("models", "minilm", "batch", "max_rows")`."""

_VALIDATION = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?", re.DOTALL)
_SOME_KEY = "[...]"
"""What msgspec says for the key of a table whose keys are anybody's."""

_INDEX = re.compile(r"(\[\d+\])+$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_QUOTED = r"""\"[^"]*\"|'[^']*'"""
_TABLE = re.compile(rf"""\s*\[{{1,2}}(?P<keys>(?:{_QUOTED}|[^\[\]"'])+)\]""")
_KEY = re.compile(rf"\s*(?P<keys>(?:{_QUOTED}|[\w.\s-])+?)\s*=")
_PART = re.compile(r"""\"([^"]*)\"|'([^']*)'|([\w-]+)""")
_LONG_TEXT = re.compile(r"""(?P<quotes>\"{3}|'{3})(?:\\.|.)*?(?P=quotes)""", re.DOTALL)


def explained(
    error: msgspec.ValidationError, of: type[msgspec.Struct], table: Any
) -> tuple[Field, str]:
    """The field at fault inside a struct, and what is wrong, from msgspec's words for it.

    Args:
        error: raised when a table was converted.
        of: what it was to become.
        table: as tomllib read it.
    """
    found = _VALIDATION.fullmatch(str(error))
    what, where = (str(error), "") if found is None else (found["what"], found["where"] or "")
    before, is_of_keys, after = where.partition(_SOME_KEY)
    field = tuple(part for part in before.split(".") if part)
    if is_of_keys:
        return (*field, f"{_key_at_fault(field, of, table)}{after}"), what[:1].lower() + what[1:]
    if known := _UNKNOWN.fullmatch(what):
        inner: Any = of
        for key in field:
            inner = _struct(set_by_hand(inner)[key])
        return (*field, known["name"]), no_such_field(inner)
    if missing := _MISSING.fullmatch(what):
        return (*field, missing["name"]), "missing"
    if what.startswith("Invalid enum value"):
        values: Any = of
        for key in field:
            values = _struct(set_by_hand(values)[key])
        return field, f"{what[:1].lower()}{what[1:]}; there are {', '.join(values)}"
    return field, what[:1].lower() + what[1:].replace("`object`", "a table")


def wrong(path: Path, text: str, field: Field, what: str) -> ConfigurationError:
    """The error for a field that is wrong.

    Args:
        path: of the file.
        text: that is in it.
        field: at fault, by the keys that lead to it.
        what: is wrong with it, without a full stop.
    """
    line = _line_of(text, field)
    where = f"{path}, line {line}" if line else str(path)
    return ConfigurationError(f"{where}: {'.'.join(field)}: {what}.")


def no_such_field(struct: type[msgspec.Struct]) -> str:
    """What is wrong with a field that a struct doesn't have."""
    return f"there is no such field; there are {', '.join(set_by_hand(struct))}"


def set_by_hand(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a struct that a file may set, with their types."""
    fields = msgspec.structs.fields(struct)
    return {field.name: field.type for field in fields if field.name not in NOT_IN_A_FILE}


def _key_at_fault(field: Field, of: type[msgspec.Struct], table: Any) -> str:
    """Which key of a table within a table has the value that is wrong."""
    kind: Any = of
    for key in field:
        kind, table = _struct(set_by_hand(kind)[key]), table[key]
    for key, value in table.items():
        try:
            msgspec.convert({key: value}, kind)
        except msgspec.ValidationError:
            return str(key)
    return _SOME_KEY


def _struct(kind: Any) -> Any:
    """A field's type, or what it is where it may also be left out."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return kinds[0] if len(kinds) == 1 else kind


def _line_of(text: str, field: Field) -> int:
    """Where a field is, or else the table it is or should be in; 0 if neither is found.

    tomllib keeps no lines, so this reads tables and keys as people write them.
    """
    field = tuple(_INDEX.sub("", key) for key in field)
    table, best, found = Field(), 0, 0
    # What a text of several lines says is no table, whatever it looks like.
    plain = _LONG_TEXT.sub(lambda long: "\n" * long[0].count("\n"), text)
    for number, line in enumerate(plain.split("\n"), 1):
        if header := _TABLE.match(line):
            here = table = _keys(header["keys"])
        elif key := _KEY.match(line):
            here = (*table, *_keys(key["keys"]))
        else:
            continue
        if len(here) > best and field[: len(here)] == here:
            best, found = len(here), number
    return found


def _keys(dotted: str) -> Field:
    return tuple("".join(kinds) for kinds in _PART.findall(dotted))
