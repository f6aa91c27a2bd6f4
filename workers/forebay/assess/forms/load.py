"""A task's form, by the fields of a file's first line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from forebay.assess.chance import Measure
from forebay.assess.forms.base import Form
from forebay.assess.forms.images import ImageLabel, ImageLabels
from forebay.assess.forms.labels import ONE_LABEL, OneLabel, SeveralLabels
from forebay.assess.forms.likeness import Pairs, Triplets
from forebay.assess.forms.ranking import Ranking
from forebay.assess.forms.spans import Entities
from forebay.assess.forms.tensors import TensorValues
from forebay.assess.forms.values import Values
from forebay.assess.lines import decode
from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Task

MEASURES: Mapping[str, Sequence[Measure]] = {
    OneLabel.name: ONE_LABEL,
    **{
        form.name: form.measures
        for form in (SeveralLabels, Entities, Ranking, Pairs, Triplets, Values, TensorValues)
    },
}
"""What is measured, by the name of a form."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def form_of(task: Task, data: bytes, *, truncate: bool, tolerance: float, folder: Path) -> Form:
    """The form of a data file.

    Args:
        task: the model's.
        data: the file's first line.
        truncate: cut what is over the model's limit.
        tolerance: by how much numbers of a value or a tensor may differ.
        folder: the data file's, which paths in it are relative to.

    Raises:
        InvalidInput: the line is of no form that this task has, or the task has none.
    """
    fields = decode(_fields, data)
    if task in (Task.CLASSIFICATION, Task.ZERO_SHOT):
        form = SeveralLabels if "labels" in fields else OneLabel
        return form(zero_shot=task is Task.ZERO_SHOT, truncate=truncate)
    if task is Task.TOKEN_CLASSIFICATION:
        return Entities(truncate=truncate)
    if task is Task.RERANKING or (task is Task.EMBEDDING and "query" in fields):
        return Ranking(by_vectors=task is Task.EMBEDDING, truncate=truncate)
    if task is Task.EMBEDDING:
        return (Triplets if "anchor" in fields else Pairs)(truncate=truncate)
    if task is Task.IMAGE_CLASSIFICATION:
        return (ImageLabels if "labels" in fields else ImageLabel)(folder=folder)
    if task is Task.TENSORS:
        return TensorValues(tolerance=tolerance)
    if task in (Task.PYTHON, Task.PIPELINE, Task.ECHO):
        return Values(echo=task is Task.ECHO, tolerance=tolerance)
    raise InvalidInput(f"models of task {task.value!r} can't be evaluated.")
