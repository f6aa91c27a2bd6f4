"""The model catalog: `models.toml`, read and checked."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from forebay.contract.errors import ConfigurationError, NotFound
from forebay.contract.model import NAME_PATTERN, NOT_IN_A_FILE, ModelSpec
from forebay.contract.steps import check_steps

Field = tuple[str, ...]
"""The keys that lead to a value: `("models", "minilm", "batch", "max_rows")`."""

_VALIDATION = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_QUOTED = r"""\"[^"]*\"|'[^']*'"""
_TABLE = re.compile(rf"""\s*\[{{1,2}}(?P<keys>(?:{_QUOTED}|[^\[\]"'])+)\]""")
_KEY = re.compile(rf"\s*(?P<keys>(?:{_QUOTED}|[\w.\s-])+?)\s*=")
_PART = re.compile(r"""\"([^"]*)\"|'([^']*)'|([\w-]+)""")
_LONG_TEXT = re.compile(r"""(?P<quotes>\"{3}|'{3})(?:\\.|.)*?(?P=quotes)""", re.DOTALL)


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `models.toml`: one table for each model, `[models.NAME]`."""

    models: Annotated[
        dict[Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")], ModelSpec], Meta(min_length=1)
    ]


class _Unread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `CatalogFile` whose tables are read one by one, so that an error can name the model."""

    models: dict[str, Any] = {}


class Catalog:
    """The models of this installation, by name.

    Args:
        models: spec of each model, under its own name.
    """

    def __init__(self, models: Mapping[str, ModelSpec]) -> None:
        self.models: Mapping[str, ModelSpec] = MappingProxyType(dict(models))

    def find(self, name: str) -> ModelSpec:
        """The spec of a model.

        Raises:
            NotFound: there is none of that name; the message lists those there are.
        """
        spec = self.models.get(name)
        if spec is None:
            raise NotFound(
                f"There is no model {name[:80]!r} here. Models: {', '.join(sorted(self.models))}.",
                param="model",
            )
        return spec


def read(path: Path) -> Catalog:
    """Read a catalog.

    Raises:
        ConfigurationError: no such file, not TOML, or a field is wrong; the message names the
            model, the field, and the line where it is.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors begin with a byte order mark
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no model catalog at {path}. Run from the project's folder, or set "
            "FOREBAY_MODELS_FILE."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}.") from error
    try:
        file = msgspec.convert(tomllib.loads(text), _Unread)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply.") from None
    except msgspec.ValidationError as error:
        raise _wrong(path, text, *_explain(error, _Unread)) from error
    if not file.models:
        raise ConfigurationError(f"{path} names no model: add a [models.NAME] table.")
    specs = {name: _spec(path, text, name, table) for name, table in file.models.items()}
    try:
        check_steps(specs)
    except ConfigurationError as error:
        _, _, what = error.message.partition(": ")
        field = ("models", error.param or "", "steps")
        raise _wrong(path, text, field, what.removesuffix(".")) from error
    return Catalog(specs)


def _spec(path: Path, text: str, name: str, table: Any) -> ModelSpec:
    for own in NOT_IN_A_FILE if isinstance(table, dict) else ():
        if own in table:
            raise _wrong(path, text, ("models", name, own), _no_such(ModelSpec))
    try:
        spec = msgspec.convert(table, ModelSpec).checked(name)
    except msgspec.ValidationError as error:
        field, what = _explain(error, ModelSpec)
        raise _wrong(path, text, ("models", name, *field), what) from error
    except ConfigurationError as error:
        inner, _, what = error.message.removeprefix(f"models.{name}").partition(": ")
        field = ("models", name, *inner.split(".")[1:])
        raise _wrong(path, text, field, what.removesuffix(".")) from error
    return msgspec.structs.replace(spec, folder=str(path.absolute().parent))


def _explain(error: msgspec.ValidationError, of: type[msgspec.Struct]) -> tuple[Field, str]:
    """The field at fault inside a struct, and what is wrong, from msgspec's words for it."""
    found = _VALIDATION.fullmatch(str(error))
    what, where = (str(error), "") if found is None else (found["what"], found["where"] or "")
    field = tuple(part for part in where.split(".") if part)
    if known := _UNKNOWN.fullmatch(what):
        inner: Any = of
        for key in field:
            inner = set_by_hand(inner)[key]
        return (*field, known["name"]), _no_such(inner)
    if missing := _MISSING.fullmatch(what):
        return (*field, missing["name"]), "missing"
    if what.startswith("Invalid enum value"):
        values: Any = of
        for key in field:
            values = set_by_hand(values)[key]
        return field, f"{what[:1].lower()}{what[1:]}; there are {', '.join(values)}"
    return field, what[:1].lower() + what[1:].replace("`object`", "a table")


def set_by_hand(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a struct that a file may set, with their types."""
    fields = msgspec.structs.fields(struct)
    return {field.name: field.type for field in fields if field.name not in NOT_IN_A_FILE}


def _no_such(struct: type[msgspec.Struct]) -> str:
    return f"there is no such field; there are {', '.join(set_by_hand(struct))}"


def _wrong(path: Path, text: str, field: Field, what: str) -> ConfigurationError:
    line = _line_of(text, field)
    where = f"{path}, line {line}" if line else str(path)
    return ConfigurationError(f"{where}: {'.'.join(field)}: {what}.")


def _line_of(text: str, field: Field) -> int:
    """Where a field is, or else the table it is or should be in; 0 if neither is found.

    tomllib keeps no lines, so this reads tables and keys as people write them.
    """
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
