"""Runs a graph of tensors for the first time: finds shapes it takes, and whether axes are rows.

That the first axis of each tensor is dynamic doesn't yet make it rows: a graph may mix along it, or
give another number of results than it took. So three rows are run alone and together, and count as
rows only if each gives what it gave alone.
"""

import ctypes
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto

from forebay.build.conversion import cases
from forebay.build.onnx_file import OnnxFile
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Speed
from forebay.contract.tensors import ANY, BYTES, TensorSignature, TensorSpec, fits

Feed = dict[str, npt.NDArray[Any]]

SIZES = (32, 48, 64, 8, 1, 224, 16, 128, 256)
"""What the dynamic axes behind the first are tried with, all the same at once."""

_ROWS = 3
_SPEED_RUNS = 5
_TOLERANCE = 1e-4
"""Largest difference between a row alone and in company, in units of the largest value."""

_BFLOAT16 = int(TensorProto.BFLOAT16)
_DTYPES: dict[str, Any] = {**cases.DTYPES, BYTES: np.object_}


def signature_of(
    file: OnnxFile, *, sample: Mapping[str, tuple[int, ...]], where: str
) -> TensorSignature:
    """What a file takes and gives, and what it has been run on.

    Args:
        file: an ONNX file.
        sample: shapes to run it on, by input, where somebody has said them.
        where: the model's table in the catalog, for errors.

    Raises:
        BuildFailed: it takes no tensors, a shape that was said is not one of its own, or it fails
            on all shapes that were tried.
    """
    if not file.inputs or not file.outputs:
        raise BuildFailed(
            f"{file.name} takes no tensors, or gives none: there is nothing to serve."
        )
    tried = _said(file, sample, where) if sample else _guessed(file.inputs)
    first_error: Exception | None = None
    for shapes in tried:
        try:
            _run(file, _feed(file, shapes, seed=0))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            first_error = first_error or error
            continue
        batched = _is_batched(file, shapes)
        return TensorSignature(file.inputs, file.outputs, batched, shapes)
    assert first_error is not None
    said = str(first_error).strip().splitlines()[0][:300]
    raise BuildFailed(
        f"{file.name} fails on all that was tried: {said}. Say shapes that it takes as "
        f"`sample = {{ {file.inputs[0].name} = {list(tried[0][0])} }}` in [{where}]."
    ) from first_error


def speed(file: OnnxFile, signature: TensorSignature, *, threads: int) -> Speed:
    """Rows per second of the graph as it is, one row at a time, on its sample."""
    feed = _feed(file, signature.sample, seed=0)
    seconds = float("inf")
    for _ in range(_SPEED_RUNS):
        started = time.perf_counter()
        _run(file, feed)
        seconds = min(seconds, time.perf_counter() - started)
    rows = round(1 / max(seconds, 1e-9), 1)
    return Speed(fp32_rows_s=rows, rows_s=rows, ratio=1.0, threads=threads)


def output_shape(file: OnnxFile, signature: TensorSignature) -> tuple[int, ...]:
    """Shape of the signature's first output, of a run on its sample.

    Raises:
        BuildFailed: the file fails on that.
    """
    names = [one.name for one in file.outputs]
    try:
        outputs = _run(file, _feed(file, signature.sample, seed=0))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        said = str(error).strip().splitlines()[0][:300]
        raise BuildFailed(
            f"{file.name} fails on an input of {list(signature.sample[0])}: {said}."
        ) from error
    return tuple(outputs[names.index(signature.outputs[0].name)].shape)


def _said(
    file: OnnxFile, sample: Mapping[str, tuple[int, ...]], where: str
) -> list[tuple[tuple[int, ...], ...]]:
    takes = {spec.name: spec for spec in file.inputs}
    for name in (*sample, *takes):
        if name not in takes or name not in sample or not fits(sample[name], takes[name].shape):
            shapes = ", ".join(f"{spec.name} = {list(spec.shape)}" for spec in file.inputs)
            raise BuildFailed(
                f"[{where}] must say in `sample` a shape for each input of {file.name}, and no "
                f"other: {shapes}, where -1 is any."
            )
    return [tuple(sample[spec.name] for spec in file.inputs)]


def _guessed(inputs: Sequence[TensorSpec]) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes to try: one row, and each size in turn for all other dynamic axes."""
    tried = [
        tuple(
            tuple(
                dim if dim != ANY else 1 if axis == 0 else size
                for axis, dim in enumerate(spec.shape)
            )
            for spec in inputs
        )
        for size in SIZES
    ]
    return list(dict.fromkeys(tried))


def _is_batched(file: OnnxFile, shapes: tuple[tuple[int, ...], ...]) -> bool:
    edges = (*file.inputs, *file.outputs)
    if not all(spec.shape and spec.shape[0] == ANY for spec in edges):
        return False
    one = tuple((1, *shape[1:]) for shape in shapes)
    return all(
        _is_the_same([_feed(file, one, seed=seed, signed=signed) for seed in range(_ROWS)], file)
        for signed in (False, True)
    )


def _is_the_same(rows: Sequence[Feed], file: OnnxFile) -> bool:
    """Whether each row gives in company what it gives alone."""
    try:
        alone = [_run(file, row) for row in rows]
        together = _run(file, {k: np.concatenate([row[k] for row in rows]) for k in rows[0]})
    except Exception:  # as above; a graph that can't take three rows has none
        return False
    return all(
        len(whole) == _ROWS
        and all(_same(alone[row][at], whole[row : row + 1]) for row in range(_ROWS))
        for at, whole in enumerate(together)
    )


def _same(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> bool:
    if expected.shape != got.shape:
        return False
    if expected.dtype.kind != "f":
        return bool((expected == got).all())
    most = float(np.abs(expected, dtype=np.float64).max(initial=0.0)) or 1.0
    loose = 10 if expected.dtype == np.float16 else 1
    return bool(np.allclose(expected, got, rtol=0, atol=loose * _TOLERANCE * most, equal_nan=True))


def _feed(
    file: OnnxFile, shapes: Sequence[tuple[int, ...]], *, seed: int, signed: bool = False
) -> Feed:
    """Values for each input: random numbers of 0 to 1, ones, the text `a`.

    Signed ones are of the normal distribution, which takes other branches of a graph that has some.
    """
    random = np.random.default_rng(seed)
    feed: Feed = {}
    for spec, shape in zip(file.inputs, shapes, strict=True):
        if spec.datatype == BYTES:
            feed[spec.name] = np.full(shape, "a", np.object_)
        elif spec.datatype in ("FP16", "FP32", "FP64"):
            drawn = random.standard_normal(shape) if signed else random.random(shape)
            feed[spec.name] = drawn.astype(_DTYPES[spec.datatype])
        else:
            one = 0x3F80 if spec.datatype == "BF16" else 1
            feed[spec.name] = np.full(shape, one, _DTYPES.get(spec.datatype, np.uint16))
    return feed


def _run(file: OnnxFile, feed: Feed) -> list[npt.NDArray[Any]]:
    """The outputs, those of BF16 as the bits of it: numpy has no such number."""
    names = [one.name for one in file.outputs]
    if all(spec.datatype != "BF16" for spec in (*file.inputs, *file.outputs)):
        outputs: list[npt.NDArray[Any]] = file.session.run(names, feed)
        return outputs
    given = {
        spec.name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(feed[spec.name], _BFLOAT16)
        if spec.datatype == "BF16"
        else ort.OrtValue.ortvalue_from_numpy(feed[spec.name])
        for spec in file.inputs
    }
    return [
        _bits(value) if spec.datatype == "BF16" else value.numpy()
        for spec, value in zip(
            file.outputs, file.session.run_with_ort_values(names, given), strict=True
        )
    ]


def _bits(value: Any) -> npt.NDArray[np.uint16]:
    size = 2 * math.prod(value.shape())
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(raw, np.uint16).reshape(value.shape())
