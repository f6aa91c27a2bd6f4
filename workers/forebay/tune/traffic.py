"""The rows that candidates are run on: the build's own texts, or lines of a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from forebay.build import texts
from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import PairRow, Row, Task, TextRow, ValueRow, encode_rows

MOST_ROWS = 2_000
"""More of a file is not looked at: it would tell no more about its lengths."""

_PAIRS = {Task.RERANKING: ("query", "document"), Task.ZERO_SHOT: ("text", "hypothesis")}
_TEXTS = (Task.EMBEDDING, Task.CLASSIFICATION, Task.TOKEN_CLASSIFICATION)

_decoder = msgspec.msgpack.Decoder[list[Row]](list[Row])


def own(spec: ModelSpec) -> list[Row]:
    """Rows of the texts that the model's build is measured on.

    Of texts that are no pairs, a task of pairs gets neighbouring ones.

    Raises:
        InvalidInput: the task takes no texts.
        BuildFailed: the catalog names a file of texts that can't be read.
    """
    if spec.task not in _TEXTS and spec.task not in _PAIRS:
        raise InvalidInput(
            f"{spec.name!r} has the task {str(spec.task)!r}, for which there is no traffic at "
            "hand: give some with --data FILE, a JSON row a line."
        )
    named = spec.build.evaluation
    found = texts.read(Path(spec.folder, named)) if named else texts.evaluation()
    rows: list[Row] = []
    for text, following in zip(found, [*found[1:], found[0]], strict=True):
        if isinstance(text, tuple):
            rows.append(PairRow(*text))
        elif spec.task in _PAIRS:
            rows.append(PairRow(text, following if isinstance(following, str) else following[0]))
        else:
            rows.append(TextRow(text))
    return rows


def read(path: Path, spec: ModelSpec) -> list[Row]:
    """Rows of a file: a text or a JSON row a line; empty lines count for nothing.

    A text is taken as it is, or as a JSON string. Objects name what the task takes: `text`; for
    reranking `query` and `document`, for zero-shot `text` and `hypothesis`; for `python` a row's
    own fields.

    Raises:
        InvalidInput: it can't be read, or a line is not what the task takes; the message names it.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            rows = [
                _row(line.strip(), spec, f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--data: {path} can't be read: {error}.") from error
    if not rows:
        raise InvalidInput(f"--data: {path} has no line with anything in it.")
    # From all of the file, so that one that is sorted by length tells of all lengths.
    return rows[:: -(-len(rows) // MOST_ROWS)]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Leave rows for other processes."""
    path.write_bytes(encode_rows(rows))


def read_back(path: Path) -> list[Row]:
    """What `write` has left."""
    return _decoder.decode(path.read_bytes())


def _row(line: str, spec: ModelSpec, where: str) -> Row:
    told = _json(line)
    if spec.task is Task.PYTHON:
        if told is None:
            raise InvalidInput(f"--data: {where} is no JSON.")
        return ValueRow(line.encode())
    if spec.task in _PAIRS:
        fields = _PAIRS[spec.task]
        if not isinstance(told, dict) or not all(isinstance(told.get(f), str) for f in fields):
            raise InvalidInput(
                f"--data: {where}: a row of {spec.name!r} is an object with the texts "
                f"{fields[0]!r} and {fields[1]!r}."
            )
        return PairRow(*(told[field] for field in fields))
    if isinstance(told, str):
        return TextRow(told)
    if isinstance(told, dict):
        if not isinstance(told.get("text"), str):
            raise InvalidInput(f"--data: {where}: an object must have a `text`.")
        return TextRow(told["text"])
    return TextRow(line)


def _json(line: str) -> Any:
    """What a line says as JSON; None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
