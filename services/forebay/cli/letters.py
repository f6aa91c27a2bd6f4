"""What `forebay dead` prints of dead letters."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from forebay.cli.show import print_table, shorten
from forebay.contract.errors import ForebayError
from forebay.contract.messages import Computation
from forebay.contract.messages import UnknownWireVersionError as UnknownWireVersion
from forebay.contract.prediction import PredictionId
from forebay.contract.rows import (
    ChatRow,
    ImageRow,
    PairRow,
    Row,
    TensorsRow,
    TextRow,
    TokensRow,
    ValueRow,
)
from forebay.lanes.dead import Contents, Letter
from forebay.lanes.predictions import Records

SHOWN_ROWS = 10
SHOWN_LETTERS = 100
"""Of a longer text, so many characters are shown."""

_TIMED = re.compile(r"(?P<at>\d{13}) (?P<what>.*)", re.DOTALL)


class Opened(msgspec.Struct, frozen=True):
    """A letter with what it carries."""

    letter: Letter
    contents: Contents


async def status_of(records: Records, id_: PredictionId) -> str:
    """How the prediction stands, in a word or a few."""
    try:
        record = await records.record(id_)
    except (msgspec.MsgspecError, UnknownWireVersion):
        return "its record can't be read"
    return "no longer kept" if record is None else record.status.value


def print_letters(letters: Sequence[tuple[str, Letter]], *, raw: bool) -> None:
    """Print letters, each with its model, one to a line."""
    if raw:
        _print_json([{"model": model, **_told(letter)} for model, letter in letters])
    elif not letters:
        print("There are no dead letters.")
    else:
        print_table(
            ("model", "prediction", "part", "died", "strikes", "attempts", "size", "reason"),
            [
                (
                    model,
                    plain(letter.prediction) or "?",
                    str(letter.part),
                    time_of(letter.at_ms),
                    str(letter.strikes),
                    str(letter.attempts),
                    size_of(letter.bytes),
                    plain(letter.reason) + (" (can't be replayed)" if letter.lacks else ""),
                )
                for model, letter in letters
            ],
        )


def print_opened(id_: PredictionId, status: str, opened: Sequence[Opened], *, raw: bool) -> None:
    """Print all that is known of a prediction's letters.

    Raises:
        ForebayError: this release can't read the rows of one; all else has been printed.
    """
    read = [_computation(one.contents) for one in opened]
    if raw:
        _print_json(
            {
                "prediction": id_.text,
                "model": id_.model,
                "status": status,
                "letters": [
                    _told(one.letter)
                    | {"history": _history(one.letter), "rows": _rows(computation)}
                    for one, (computation, _) in zip(opened, read, strict=True)
                ],
            }
        )
    else:
        print(f"{id_.text}: {plain(status)}")
        for one, (computation, _) in zip(opened, read, strict=True):
            _print_one(one, computation)
    fault = next((fault for _, fault in read if fault), "")
    if fault:
        raise ForebayError(f"{id_.text}: {fault}")


def _print_one(one: Opened, computation: Computation | None) -> None:
    letter = one.letter
    of = f" of {len(one.contents.parts)}" if one.contents.parts else ""
    print(
        f"\n  part {letter.part}{of} died {time_of(letter.at_ms)} on the {plain(letter.lane)} lane"
    )
    print(f"  reason    {plain(letter.reason)}")
    print(f"  strikes   {letter.strikes} in {letter.attempts} attempts")
    print(f"  size      {size_of(letter.bytes)}")
    print(f"  replay    {f'not possible: {letter.why_not}' if letter.lacks else 'possible'}")
    if letter.joined:
        print(f"  joined by {', '.join(map(plain, letter.joined))}")
    print("  history" if letter.history else "  history   none")
    for at_ms, what in map(_timed, letter.history):
        print(f"    {time_of(at_ms) if at_ms else '?':20}  {plain(what)}")
    if computation is None:
        print("  rows      not readable" if one.contents.message else "  rows      not kept")
        return
    rows, first = computation.rows, computation.first_row
    print(f"  rows      {len(rows)}")
    for index, row in enumerate(rows[:SHOWN_ROWS], first):
        print(f"    {index}  {row_text(row)}")
    if len(rows) > SHOWN_ROWS:
        print(f"    … and {len(rows) - SHOWN_ROWS} more; --json prints all")


def row_text(row: Row) -> str:
    """A row, short enough to read."""
    match row:
        case TextRow(text=text):
            return _short(text, '"')
        case TokensRow(ids=ids):
            return shorten(list(ids))
        case ValueRow(json=json):
            return _short(json.decode(errors="replace"), "")
        case PairRow(text=text, pair=pair):
            return " with ".join(_short(part, '"') for part in (text, pair))
        case ImageRow(image=image):
            return f"an image of {size_of(len(image))}"
        case TensorsRow(tensors=tensors):
            return ", ".join(
                f"{plain(one.name)} {one.datatype} {list(one.shape)}" for one in tensors
            )
        case ChatRow(messages=messages):
            last = messages[-1].content if messages else ""
            return f"a chat of {len(messages)} messages, the last " + _short(last, '"')


def plain(text: str) -> str:
    """Text from outside, on one line and without what a terminal would obey."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def time_of(at_ms: int) -> str:
    """A time in Unix ms as people write it, UTC."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def size_of(size: int) -> str:
    """Bytes as people write them."""
    if size < 10_000:
        return f"{size} B"
    return f"{size / 1e3:.0f} KB" if size < 10_000_000 else f"{size / 1e6:.0f} MB"


def _short(text: str, quote: str) -> str:
    shown = f"{quote}{plain(text[:SHOWN_LETTERS])}{quote}"
    return shown if len(text) <= SHOWN_LETTERS else f"{shown} … {len(text)} characters"


def _computation(contents: Contents) -> tuple[Computation | None, str]:
    """What died, or why this release can't read it."""
    try:
        return contents.computation(), ""
    except ForebayError as error:
        return None, error.message


def _told(letter: Letter) -> dict[str, Any]:
    return {
        "prediction": letter.prediction,
        "part": letter.part,
        "died_at": _iso(letter.at_ms),
        "reason": letter.reason,
        "strikes": letter.strikes,
        "attempts": letter.attempts,
        "lane": letter.lane,
        "bytes": letter.bytes,
        "replayable": not letter.lacks,
        "joined": list(letter.joined),
    }


def _history(letter: Letter) -> list[dict[str, Any]]:
    return [
        {"at": _iso(at_ms) if at_ms else None, "what": what}
        for at_ms, what in map(_timed, letter.history)
    ]


def _timed(line: str) -> tuple[int, str]:
    """A line of a history: when, in Unix ms (0 if it doesn't say), and what."""
    timed = _TIMED.fullmatch(line)
    return (int(timed["at"]), timed["what"]) if timed else (0, line)


def _rows(computation: Computation | None) -> list[dict[str, Any]] | None:
    if computation is None:
        return None
    return [
        {"index": index, **_row(row)}
        for index, row in enumerate(computation.rows, computation.first_row)
    ]


def _row(row: Row) -> dict[str, Any]:
    match row:
        case TextRow(text=text):
            return {"text": text}
        case TokensRow(ids=ids):
            return {"tokens": ids}
        case ValueRow(json=json):
            return {"value": msgspec.Raw(json)}
        case PairRow(text=text, pair=pair):
            return {"text": text, "pair": pair}
        case ImageRow(image=image):
            return {"image": image}
        case TensorsRow(tensors=tensors):
            return {
                "tensors": {
                    one.name: {"datatype": one.datatype, "shape": one.shape, "data": one.data}
                    for one in tensors
                }
            }
        case ChatRow(messages=messages):
            return {"messages": [{"role": one.role, "content": one.content} for one in messages]}


def _print_json(value: Any) -> None:
    try:
        print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ForebayError(f"That can't be shown as JSON: {error}.") from error


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
