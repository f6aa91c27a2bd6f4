"""Two evaluations of the same rows, held against each other."""

from pathlib import Path

import msgspec
import numpy as np

from forebay.assess import chance
from forebay.assess.chance import Columns, Difference, Measure
from forebay.assess.evaluation import FORMAT_VERSION, Evaluation
from forebay.assess.forms.load import MEASURES
from forebay.contract.errors import InvalidInput


class Comparison(msgspec.Struct, frozen=True):
    """How one evaluation differs from another.

    Attributes:
        model: of the other.
        version: likewise.
        examples: rows that both have answered.
        differences: a figure each.
        verdict: in a sentence: which is better, and whether that could be chance.
        rows_s_ratio: the speed of this one over the other's; comparable only within one run.
    """

    model: str
    version: str
    examples: int
    differences: tuple[Difference, ...]
    verdict: str
    rows_s_ratio: float


def compare(here: Evaluation, there: Evaluation) -> Comparison:
    """Compare row by row, over the rows that both have answered.

    Args:
        here: an evaluation.
        there: another, of the same rows.

    Raises:
        InvalidInput: they are not of the same rows.
    """
    same = (here.form, here.data_sha256) == (there.form, there.data_sha256)
    if not same or here.form not in MEASURES:
        raise InvalidInput(
            f"The evaluation of {there.model} {there.version} is of other rows than this one: "
            "evaluate both with the same data and --limit."
        )
    both = sorted(set(here.lines) & set(there.lines))
    if not both:
        raise InvalidInput("No row was answered by both: there is nothing to compare.")
    columns = [_rows_of(one, both) for one in (here, there)]
    shared = tuple(one for one in MEASURES[here.form] if _told(one, here) and _told(one, there))
    differences = chance.differences(shared, *columns)
    return Comparison(
        model=there.model,
        version=there.version,
        examples=len(both),
        differences=tuple(differences),
        verdict=_verdict(here, there, differences[0], lower=shared[0].lower_is_better),
        rows_s_ratio=here.rows_s / there.rows_s if there.rows_s else 0.0,
    )


def read(path: Path) -> Evaluation:
    """An evaluation that was written with `--output`.

    Raises:
        InvalidInput: the file can't be read, or holds something else.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"{path} is no evaluation, as `forebay models evaluate --output` writes one: {error}."
        ) from error
    if found.format != FORMAT_VERSION:
        raise InvalidInput(
            f"{path} has format {found.format}, and this release reads {FORMAT_VERSION}."
        )
    return found


def _rows_of(one: Evaluation, lines: list[int]) -> Columns:
    wanted = set(lines)
    chosen = np.array([line in wanted for line in one.lines])
    return {name: column[chosen] for name, column in one.table().items()}


def _told(measure: Measure, one: Evaluation) -> bool:
    return any(figure.measure == measure.name for figure in one.figures)


def _verdict(here: Evaluation, there: Evaluation, first: Difference, *, lower: bool) -> str:
    names = [f"{one.model} {one.version}" for one in (here, there)]
    if names[0] == names[1]:
        names = [
            f"{name} through {one.through}" for name, one in zip(names, (here, there), strict=True)
        ]
    told = (
        f"{first.measure} {first.here:.4f} and {first.there:.4f}, {first.test} p = "
        f"{first.p_value:.3g}"
    )
    if first.here == first.there:
        return f"{names[0]} and {names[1]} are equally good: {told}."
    better = names[(first.here < first.there) != lower]
    if first.is_chance:
        return f"{better} is ahead, but that could be chance: {told}."
    return f"{better} is better, and that is hardly chance: {told}."
