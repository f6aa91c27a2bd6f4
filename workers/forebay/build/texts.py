"""The texts a build calibrates on and, apart from those, the texts it measures on."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from forebay.contract.errors import BuildFailed

SAMPLES = (
    "ready",
    "Is there a train to the coast tonight?",
    "The first request pays for nothing when the model has run before it arrives.",
    "A forebay is the pool ahead of a turbine: it takes water as it comes, in floods and in "
    "trickles, and feeds the turbines an even flow, so that none of them runs dry while another "
    "has more than it can use.",
)
"""What a worker runs before it reports ready; kept in the manifest."""

MIN_TEXTS = 16
"""Fewer measure nothing."""

Text = str | tuple[str, str]
"""A text, or a pair of them."""

_CALIBRATION_EVERY = 3


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A row as a prediction's input has it."""

    text: str
    pair: str | None = None


class Texts(msgspec.Struct, frozen=True):
    """What a build chooses by, and what it measures on; they share no text."""

    calibration: tuple[Text, ...]
    evaluation: tuple[Text, ...]


def gather(folder: str, *, calibrate_on: str, evaluate_on: str) -> Texts:
    """The texts of a build.

    Args:
        folder: what the files' names are relative to.
        calibrate_on: a file's name, or empty for the build's own texts.
        evaluate_on: likewise.

    Raises:
        BuildFailed: a file can't be read or has too few texts, or one text is in both.
    """
    chosen = Texts(
        calibration=tuple(read(Path(folder, calibrate_on)) if calibrate_on else calibration()),
        evaluation=tuple(read(Path(folder, evaluate_on)) if evaluate_on else evaluation()),
    )
    shared = set(chosen.calibration) & set(chosen.evaluation)
    if shared:
        first = next(text for text in chosen.evaluation if text in shared)
        raise BuildFailed(
            f"{len(shared)} texts are in calibration and in evaluation, such as "
            f"{str(first)[:80]!r}: accuracy on texts that were calibrated on says nothing. Take "
            "them out of one of the two."
        )
    return chosen


def read(path: Path) -> list[Text]:
    r"""The texts of a file, one a line: as it is, or as JSON, `{"text": "…"}`.

    A pair is `{"text": "…", "pair": "…"}`, as in a prediction's input. A text with line breaks, or
    one that starts with a brace, has to be JSON. Empty lines and repetitions are left out.

    Raises:
        BuildFailed: the file can't be read, a line that starts with a brace is no such object, or
            there are too few texts.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildFailed(f"{path} can't be read: {error}.") from error
    found: dict[Text, None] = {}
    for number, line in enumerate(lines, 1):
        text: Text = line.strip()
        if line.lstrip().startswith("{"):
            try:
                row = msgspec.json.decode(line, type=_Line)
            except msgspec.MsgspecError as error:
                raise BuildFailed(
                    f'{path}, line {number}: {error}. A row is {{"text": "…"}}, or with "pair" '
                    "beside it."
                ) from error
            text = row.text if row.pair is None else (row.text, row.pair)
        if text and text != ("", ""):
            found[text] = None
    if len(found) < MIN_TEXTS:
        raise BuildFailed(f"{path} has {len(found)} texts: give at least {MIN_TEXTS}.")
    return list(found)


def apart(given: Sequence[Text], measured: Sequence[Text]) -> list[Text]:
    """The texts that nothing is measured on.

    Raises:
        BuildFailed: there are too few.
    """
    others = set(measured)
    left = [text for text in given if text not in others]
    if len(left) < MIN_TEXTS:
        raise BuildFailed(
            f"Of {len(given)} texts to train on, {len(left)} are not also those that the result is "
            f"measured on: give at least {MIN_TEXTS}."
        )
    return left


def calibration() -> list[str]:
    """A third of the build's own texts: they set scales and choose."""
    return _all()[::_CALIBRATION_EVERY]


def evaluation() -> list[str]:
    """The others: they make the report."""
    return [text for index, text in enumerate(_all()) if index % _CALIBRATION_EVERY]


def _all() -> list[str]:
    return (files("forebay.build") / "data" / "texts.txt").read_text("utf-8").splitlines()
