"""Rows to run a model on where nobody has given any."""

from collections.abc import Sequence

from forebay.build import texts
from forebay.contract.errors import InvalidInput
from forebay.contract.rows import PairRow, Row, Task, TextRow, ValueRow
from forebay.inference.backends.base import Backend
from forebay.inference.backends.python import PythonModel


def rows_of_texts(task: Task, given: Sequence[str]) -> list[Row]:
    """Rows of a task's own kind; pairs are made of neighbouring texts.

    Raises:
        InvalidInput: the task's rows are made of something else.
    """
    if task is Task.RERANKING:
        return [PairRow(*pair) for pair in zip(given, (*given[1:], *given[:1]), strict=True)]
    if task is Task.ZERO_SHOT:
        return [PairRow(text, "This example is new.") for text in given]
    if task in (Task.EMBEDDING, Task.CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        return [TextRow(text) for text in given]
    raise InvalidInput(f"A model of task {task.value!r} takes no texts: give rows of your own.")


def shipped_rows(task: Task, backend: Backend) -> list[Row]:
    """Rows of the shipped texts that builds are measured on; of a python model its samples.

    Raises:
        InvalidInput: there are none for this model.
    """
    if isinstance(backend, PythonModel):
        if not backend.samples:
            raise InvalidInput("The model's class has no `samples`: give rows of your own.")
        return backend.samples
    if task is Task.ECHO:
        return [ValueRow(b"1")]
    return rows_of_texts(task, texts.evaluation())
