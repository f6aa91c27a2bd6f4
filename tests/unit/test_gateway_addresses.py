"""Addresses in the rows of a python model: which are fetched, and what becomes of the rest."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from forebay.contract.rows import Row, ValueRow
from forebay.gateway.dialects.replicate.addresses import file_fields, inlined
from forebay.inference.backends.user_files import UserFiles
from forebay.inference.backends.user_rows import RowType

HUGE = 10**30
OURS = "http://x/v1/files/file-" + "0" * 32


class Item(msgspec.Struct):
    picture: Path


class Given(msgspec.Struct):
    one: Path
    text: str = ""
    several: list[Path | None] = []
    maybe: Path | None = None
    inner: Item | None = None


SCHEMA = RowType(Given, None, files=UserFiles()).schema


async def fetch(addresses: Mapping[str, str]) -> Mapping[str, bytes]:
    return {param: f"{param} {url}".encode() for param, url in addresses.items()}


async def read(*rows: dict[str, Any], single: bool = False) -> list[Any]:
    given: list[Row] = [ValueRow(msgspec.json.encode(row)) for row in rows]
    found = await inlined(given, SCHEMA, fetch, single=single)
    return [msgspec.json.decode(row.json) for row in found if isinstance(row, ValueRow)]


def data_url(content: str, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(content.encode()).decode()}"


def test_fields_that_are_files_are_told_by_the_schema() -> None:
    assert file_fields(SCHEMA) == {"one", "several", "maybe"}
    assert file_fields({}) == frozenset()
    assert file_fields({"type": "object", "properties": {"a": True}}) == frozenset()


async def test_addresses_where_a_file_is_taken_are_fetched_and_told_by_their_field() -> None:
    assert await read({"one": "https://h/a.png?b"}, single=True) == [
        {"one": data_url("input.one https://h/a.png?b", "image/png")}
    ]
    assert await read({"one": "a"}, {"one": "HTTP://h", "several": [None, "http://i", "b"]}) == [
        {"one": "a"},
        {
            "one": data_url("input[1].one HTTP://h"),
            "several": [None, data_url("input[1].several[1] http://i"), "b"],
        },
    ]


async def test_nothing_else_is_touched() -> None:
    row = {"one": OURS, "text": "http://h", "inner": {"picture": "http://h"}, "maybe": None}
    assert await read(row) == [row]
    as_it_came = b'{ "one" : "http://h", "huge": %d, "text": "\\u0041" }' % HUGE
    (found,) = await inlined([ValueRow(as_it_came)], SCHEMA, fetch, single=True)
    assert isinstance(found, ValueRow)
    assert b'"huge":%d' % HUGE in found.json
    assert b'"text":"\\u0041"' in found.json
