"""Rows to run a model on where nobody has given any."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from forebay.build import texts
from forebay.build.sample_images import Picture, sample_images
from forebay.contract.errors import InvalidInput
from forebay.contract.rows import (
    ImageRow,
    NamedTensor,
    PairRow,
    Row,
    Task,
    TensorsRow,
    TextRow,
    ValueRow,
)
from forebay.contract.tensors import BYTES, TensorSignature
from forebay.inference.backends.arrays import DTYPES, tensor_of
from forebay.inference.backends.base import Backend, OfTensors
from forebay.inference.backends.python import PythonModel

_TENSORS = 8


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


def rows_of_lines(task: Task, lines: Sequence[str], *, folder: Path) -> list[Row]:
    """Rows of lines: a text each, or for a model of images the path of a file.

    Args:
        task: the model's.
        lines: none of them empty.
        folder: that paths are relative to.

    Raises:
        InvalidInput: a file can't be read, or the task's rows are made of something else.
    """
    if task is not Task.IMAGE_CLASSIFICATION:
        return rows_of_texts(task, lines)
    try:
        return [ImageRow((folder / line).read_bytes()) for line in lines]
    except OSError as error:
        raise InvalidInput(f"{error.filename} can't be read: {error.strerror}.") from error


def rows_to_profile(task: Task, backend: Backend) -> list[Row]:
    """The shipped rows; of images those that builds are tried on, of tensors random numbers.

    Raises:
        InvalidInput: there are none for this model.
    """
    if isinstance(backend, OfTensors):
        return [_random(backend.signature, seed) for seed in range(_TENSORS)]
    if task is Task.IMAGE_CLASSIFICATION:
        return [ImageRow(_png(picture)) for picture in sample_images()]
    return shipped_rows(task, backend)


def _random(signature: TensorSignature, seed: int) -> TensorsRow:
    """A row of the shapes that the build has tried: numbers of 0 to 1, ones, the letter a."""
    random = np.random.default_rng(seed)
    made: list[NamedTensor] = []
    for spec, shape in zip(signature.inputs, signature.sample, strict=True):
        if spec.datatype == BYTES:
            values = np.full(shape, "a", np.object_)
        elif spec.datatype.startswith("FP"):
            values = random.random(shape).astype(DTYPES[spec.datatype])
        else:
            values = np.full(shape, 0x3F80 if spec.datatype == "BF16" else 1, DTYPES[spec.datatype])
        made.append(tensor_of(spec.name, spec.datatype, values))
    return TensorsRow(tuple(made))


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
