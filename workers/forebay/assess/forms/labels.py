"""A text and its label, or any number of labels; zero-shot brings the labels to choose from.

{"text": "…", "label": "good"}                  also "pair", for models of two texts
{"text": "…", "labels": ["toxic", "threat"]}    a multi-label model; none is []
{"text": "…", "candidate_labels": ["a", "b"], "label": "a"}     zero-shot; or "labels"
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import (
    Confusion,
    Details,
    Example,
    LabelFigures,
    Numbers,
    mean_of,
)
from forebay.assess.lines import decode
from forebay.assess.measures import labels as figures
from forebay.contract.errors import InvalidInput

TOLD = 0.5
"""A multi-label model says what it scores higher than this, as for `/v1/moderations`."""

MOST_CONFUSIONS = 10
SHOWN = 10


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    label: str | None = None
    labels: tuple[str, ...] | None = None
    pair: str | None = None
    candidate_labels: tuple[str, ...] | None = None
    hypothesis_template: str | None = None


class Labels:
    """What forms of one label and of several share: how a line is read, and codes for names.

    Args:
        zero_shot: whether each line brings the labels to choose from.
        truncate: cut what is over the model's limit.
    """

    several: bool

    def __init__(self, *, zero_shot: bool, truncate: bool) -> None:
        self._zero_shot = zero_shot
        self._truncate = truncate
        self._decoder = msgspec.json.Decoder(_Line)
        self._codes: dict[str, int] = {}

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        truth = self.truth(given.label, given.labels)
        input_: dict[str, Any] = {"text": given.text, "truncate": self._truncate}
        if self._zero_shot:
            if not given.candidate_labels:
                raise InvalidInput("it needs `candidate_labels`, at least one.")
            input_ |= {"labels": given.candidate_labels, "multi_label": self.several}
            if given.hypothesis_template is not None:
                input_["hypothesis_template"] = given.hypothesis_template
        elif given.candidate_labels is not None or given.hypothesis_template is not None:
            raise InvalidInput(
                "`candidate_labels` and `hypothesis_template` are for zero-shot models."
            )
        else:
            input_["top_k"] = None
        if given.pair is not None:
            input_["pair"] = given.pair
        return Example(line, input_, truth, rows=len(given.candidate_labels or ("",)))

    def truth(self, label: str | None, labels: tuple[str, ...] | None) -> tuple[str, ...]:
        """The true labels of a line, which has one or several, and not both.

        Raises:
            InvalidInput: it has not what this form is of.
        """
        if self.several and labels is not None and label is None:
            return labels
        if not self.several and label is not None and labels is None:
            return (label,)
        wanted, other = ("labels", "label") if self.several else ("label", "labels")
        raise InvalidInput(f"it needs `{wanted}`, and not `{other}`, as the first line has it.")

    def scored(self, example: Example, output: Any) -> list[tuple[str, float]]:
        """Every label with its score, the best first.

        Raises:
            InvalidInput: a true label is none of them.
        """
        if self._zero_shot:
            told = list(zip(output["labels"], output["scores"], strict=True))
        else:
            told = [(one["label"], one["score"]) for one in output]
        known = [label for label, _ in told]
        for label in example.truth:
            if label not in known:
                names = ", ".join(map(repr, sorted(known)[:SHOWN]))
                more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
                raise InvalidInput(f"{label!r} is none of this model's labels: {names}{more}.")
        return told

    def code(self, label: str) -> int:
        """Number of a label."""
        return self._codes.setdefault(label, len(self._codes))

    def label_figures(self, tally: figures.Tally) -> tuple[LabelFigures, ...]:
        """Figures of each label, by name."""
        told = zip(
            self._codes, tally.precision, tally.recall, tally.f1, tally.support, strict=False
        )
        return tuple(
            LabelFigures(label, float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in sorted(told)
        )


class OneLabel(Labels):
    """One label a row: accuracy, F1, confusions, and how far a score can be trusted."""

    name = "label"
    several = False

    def __init__(self, *, zero_shot: bool, truncate: bool) -> None:
        super().__init__(zero_shot=zero_shot, truncate=truncate)
        self._rows = Numbers("truth", "predicted", "confidence", "correct")
        self._scores_are_shares = True

    @property
    def measures(self) -> Sequence[Measure]:
        """ECE is told only of scores that are 0..1."""
        return ONE_LABEL if self._scores_are_shares else ONE_LABEL[:-1]

    def take(self, example: Example, output: Any) -> None:
        """Count the best label."""
        told = self.scored(example, output)
        label, score = told[0]
        (truth,) = example.truth
        for name, _ in told:
            self.code(name)
        self._scores_are_shares = self._scores_are_shares and 0 <= score <= 1
        self._rows.add(self.code(truth), self.code(label), score, truth == label)

    def columns(self) -> Columns:
        """`truth` and `predicted` are codes; `confidence` is the score; `correct` is 0 or 1."""
        return self._rows.columns()

    def details(self) -> Details:
        """Figures of each label, and the commonest mistakes."""
        rows, names = self.columns(), list(self._codes)
        truth, predicted = rows["truth"].astype(int), rows["predicted"].astype(int)
        found = figures.confusions(truth, predicted, most=MOST_CONFUSIONS)
        return Details(
            self.label_figures(_tally(rows)),
            tuple(Confusion(names[one], names[other], many) for one, other, many in found),
        )


class SeveralLabels(Labels):
    """Any number of labels a row: F1, and how often all of them are right."""

    name = "labels"
    several = True

    def __init__(self, *, zero_shot: bool, truncate: bool) -> None:
        super().__init__(zero_shot=zero_shot, truncate=truncate)
        self._truth: list[tuple[int, ...]] = []
        self._predicted: list[tuple[int, ...]] = []

    measures: Sequence[Measure] = (
        Measure("micro F1", lambda rows: _tally_several(rows).micro_f1),
        Measure("macro F1", lambda rows: _tally_several(rows).macro_f1),
        mean_of("correct", "all labels right", hits=True),
    )

    def take(self, example: Example, output: Any) -> None:
        """Count the labels that score higher than `TOLD`."""
        told = self.scored(example, output)
        for name, _ in told:
            self.code(name)
        self._truth.append(tuple(map(self.code, example.truth)))
        self._predicted.append(tuple(self.code(name) for name, score in told if score > TOLD))

    def columns(self) -> Columns:
        """`truth` and `predicted` are 0 or 1, `[rows, labels]`; `correct` is 0 or 1, `[rows]`."""
        truth, predicted = self._flags(self._truth), self._flags(self._predicted)
        correct = (truth == predicted).all(1).astype(np.float64)
        return {"truth": truth, "predicted": predicted, "correct": correct}

    def details(self) -> Details:
        """Figures of each label."""
        return Details(self.label_figures(_tally_several(self.columns())))

    def _flags(self, rows: Iterable[tuple[int, ...]]) -> figures.Values:
        flags = np.zeros((len(self._truth), len(self._codes)))
        for index, codes in enumerate(rows):
            flags[index, list(codes)] = 1
        return flags


def _tally(rows: Columns) -> figures.Tally:
    return figures.tally(rows["truth"].astype(int), rows["predicted"].astype(int))


def _tally_several(rows: Columns) -> figures.Tally:
    return figures.tally_several(rows["truth"] > 0, rows["predicted"] > 0)


def _calibration_error(rows: Columns) -> float:
    return figures.calibration_error(rows["confidence"], rows["correct"] > 0)


ONE_LABEL: Sequence[Measure] = (
    mean_of("correct", "accuracy", hits=True),
    Measure("macro F1", lambda rows: _tally(rows).macro_f1),
    Measure("ECE", _calibration_error, lower_is_better=True),
)
