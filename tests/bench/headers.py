"""Inline script metadata (https://peps.python.org/pep-0723/) with a table of ours."""

import re
import tomllib
from typing import TypeVar

import msgspec

_HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

Table = TypeVar("Table")


def read(source: str, name: str, kind: type[Table]) -> Table | None:
    """The table `[tool.NAME]` of a script; None if it has no such header.

    Raises:
        msgspec.ValidationError: the table is not of its kind.
    """
    match = _HEADER.search(source)
    if match is None:
        return None
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:]
        for line in match["content"].splitlines(keepends=True)
    )
    table = tomllib.loads(content).get("tool", {}).get(name)
    return None if table is None else msgspec.convert(table, kind)
