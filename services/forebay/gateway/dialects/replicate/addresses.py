"""Addresses on the web in the rows of a python model: fetched here, where nobody else waits for it.

Which fields are files the worker says in the schema of a row. A gateway that doesn't share its
home doesn't know, and leaves addresses to be refused there.
"""

import base64
import mimetypes
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from forebay.contract.files import FILE_FIELD, id_in
from forebay.contract.rows import Row, ValueRow

LOCAL: Final = "#/$defs/"

Fetch = Callable[[Mapping[str, str]], Awaitable[Mapping[str, bytes]]]

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])  # what isn't touched stays as it came
_any = msgspec.json.Decoder()


async def inlined(
    rows: Sequence[Row], schema: Mapping[str, Any], fetch: Fetch, *, single: bool
) -> tuple[Row, ...]:
    """Rows with `data:` URLs for addresses, where a file is taken.

    Args:
        rows: as they came.
        schema: of a row.
        fetch: gets what is at some addresses, by the field that holds each.
        single: whether the input is one row rather than a list of them.

    Raises:
        InvalidInput: what is at one can't be had; names its field.
        Unavailable: files can't be read now.
    """
    fields = file_fields(schema)
    found: dict[str, _Found] = {}
    opened: dict[int, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        if not fields or not isinstance(row, ValueRow) or b"http" not in row.json.lower():
            continue
        values = cast("dict[str, Any]", _fields.decode(row.json))
        at = "input" if single else f"input[{index}]"
        for one in _addresses(values, fields):
            found[f"{at}.{one.told}"] = one
            opened[index] = values
    if not found:
        return tuple(rows)
    contents = await fetch({param: one.url for param, one in found.items()})
    for param, one in found.items():
        one.replace(contents[param])
    return tuple(
        ValueRow(msgspec.json.encode(opened[index])) if index in opened else row
        for index, row in enumerate(rows)
    )


def file_fields(schema: Mapping[str, Any]) -> frozenset[str]:
    """Names of a row's fields that are files, or lists of them.

    Args:
        schema: of a row, as msgspec makes it.
    """
    reference: str = schema.get("$ref", "")
    if reference.startswith(LOCAL):
        schema = schema.get("$defs", {}).get(reference.removeprefix(LOCAL), {})
    properties: Mapping[str, Any] = schema.get("properties", {})
    return frozenset(name for name, of in properties.items() if _is_file(of))


class _Found(msgspec.Struct, frozen=True):
    """An address, and where it stands."""

    told: str
    url: str
    within: Any
    key: Any

    def replace(self, content: bytes) -> None:
        kind = mimetypes.guess_type(urlsplit(self.url).path)[0] or "application/octet-stream"
        self.within[self.key] = f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _addresses(values: dict[str, Any], fields: frozenset[str]) -> Iterator[_Found]:
    for name in fields & values.keys():
        value = _any.decode(values[name])
        if isinstance(value, list):
            found = [at for at, item in enumerate(value) if _is_elsewhere(item)]
            if found:
                values[name] = value
            for at in found:
                yield _Found(f"{name}[{at}]", value[at], value, at)
        elif _is_elsewhere(value):
            yield _Found(name, value, values, name)


def _is_elsewhere(value: object) -> bool:
    is_url = isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))
    return is_url and id_in(str(value)) is None


def _is_file(schema: Any) -> bool:
    """Whether a field takes a file, or a list of files, whatever else it takes."""
    if not isinstance(schema, dict):
        return False
    if FILE_FIELD in schema:
        return True
    return _is_file(schema.get("items")) or any(map(_is_file, schema.get("anyOf", ())))
