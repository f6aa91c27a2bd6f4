"""A data file through a model: measures, with how far chance may have moved them."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from forebay.assess import chance
from forebay.assess.chance import Columns
from forebay.assess.forms.base import Details, Example, Form
from forebay.assess.forms.load import form_of
from forebay.assess.lines import Lines
from forebay.assess.local import Runner
from forebay.contract.errors import ErrorKind, InvalidInput
from forebay.contract.rows import Task

FORMAT_VERSION = 1

MOST_REFUSALS = 10
"""Refused examples that are told one by one."""


class Figure(msgspec.Struct, frozen=True):
    """A measure of an evaluation, and the 95 % interval that chance leaves it."""

    measure: str
    value: float
    low: float
    high: float


class Refusal(msgspec.Struct, frozen=True):
    """An example that the model refused, or failed on: it is in no measure."""

    line: int
    error: str


class Evaluation(msgspec.Struct, frozen=True):
    """What became of a data file.

    Attributes:
        model: its name.
        version: as clients see it.
        through: `this process`, or the gateway's URL.
        form: of the file's lines.
        data_sha256: of the lines that were read: equal for equal rows.
        examples: lines that count.
        refused: lines that the model refused or failed on.
        refusals: the first of them.
        rows: of the model that were run.
        seconds: from the first line to the last answer.
        figures: the measures.
        undefined: measures that there are not of such rows: too few, or all alike.
        details: figures by label, and confusions.
        columns: what was counted of each example, in order, so that another evaluation of the same
            rows can be held against this one.
    """

    model: str
    version: str
    through: str
    form: str
    data_sha256: str
    examples: int
    refused: int
    refusals: tuple[Refusal, ...]
    rows: int
    seconds: float
    figures: tuple[Figure, ...]
    details: Details
    columns: dict[str, list[Any]]
    lines: list[int]
    undefined: tuple[str, ...] = ()
    format: int = FORMAT_VERSION

    @property
    def rows_s(self) -> float:
        """Rows of the model a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    def table(self) -> Columns:
        """The columns as arrays."""
        return {name: np.array(values, np.float64) for name, values in self.columns.items()}


class Progress(msgspec.Struct, frozen=True):
    """How far an evaluation is: examples answered, and the share of the file that was read."""

    examples: int
    share: float


def evaluate(
    model: str,
    task: Task,
    runner: Runner,
    lines: Lines,
    *,
    through: str,
    truncate: bool = False,
    tolerance: float = 0.0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Evaluation:
    """Run a data file through a model and compare with the truth in it.

    The file is read as it is needed; of each example a few numbers are kept.

    Args:
        model: its name.
        task: the model's.
        runner: answers.
        lines: the data file.
        through: what the runner is, for the report.
        truncate: cut what is over the model's limit instead of leaving it out.
        tolerance: by how much numbers of a python model's output may differ.
        progress: told after each example.

    Raises:
        InvalidInput: the file, or a line of it, is not what the task takes; names the line.
        BackendFailed: nothing was answered.
    """
    started = time.perf_counter()
    examples, refusals, refused, rows = list[int](), list[Refusal](), 0, 0
    form, source = _read(task, lines, truncate=truncate, tolerance=tolerance)
    for example, answer in runner.answers(source):
        if answer.error is not None:
            if answer.error.kind is ErrorKind.UNAVAILABLE:
                raise answer.error
            refused += 1
            if len(refusals) < MOST_REFUSALS:
                refusals.append(Refusal(example.line, answer.error.message))
        else:
            try:
                form.take(example, answer.output)
            except InvalidInput as error:
                raise lines.wrong(example.line, error.message) from error
            examples.append(example.line)
            rows += example.rows
        share = min(1.0, lines.bytes_read / max(lines.bytes, 1))
        progress(Progress(len(examples) + refused, share))
    seconds = time.perf_counter() - started
    if not examples:
        first = refusals[0]
        raise InvalidInput(f"No row of the data could be used; line {first.line}: {first.error}")
    columns = form.columns()
    measures = [measure for measure in form.measures if measure.is_defined(columns)]
    values = [measure.of(columns) for measure in measures]
    ends = chance.intervals(measures, columns)
    return Evaluation(
        model=model,
        version=runner.version,
        through=through,
        form=form.name,
        data_sha256=lines.sha256,
        examples=len(examples),
        refused=refused,
        refusals=tuple(refusals),
        rows=rows,
        seconds=round(seconds, 3),
        figures=tuple(
            Figure(measure.name, value, low, high)
            for measure, value, (low, high) in zip(measures, values, ends, strict=True)
        ),
        details=form.details(),
        columns={name: column.tolist() for name, column in columns.items()},
        lines=examples,
        undefined=tuple(one.name for one in form.measures if one not in measures),
    )


def _read(
    task: Task, lines: Lines, *, truncate: bool, tolerance: float
) -> tuple[Form, Iterator[Example]]:
    """The file's form, and its examples."""
    source = iter(lines)
    first = next(source, None)
    if first is None:
        raise InvalidInput("The data has no rows: it needs one JSON object a line.")
    try:
        form = form_of(
            task,
            first.data,
            truncate=truncate,
            tolerance=tolerance,
            folder=lines.folder,
        )
    except InvalidInput as error:
        raise lines.wrong(first.number, error.message) from error

    def examples() -> Iterator[Example]:
        for line in itertools.chain([first], source):
            try:
                yield form.read(line.data, line.number)
            except InvalidInput as error:
                raise lines.wrong(line.number, error.message) from error

    return form, examples()
