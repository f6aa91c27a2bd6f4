"""SavedModel to ONNX, by tf2onnx and TensorFlow, which only this process imports."""

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forebay.build.conversion import cases
from forebay.build.conversion.cases import Case
from forebay.build.conversion.process import CASES_FILE, GRAPH_FILE, Order
from forebay.contract.errors import BuildFailed

OPSET = 18
"""The last that tf2onnx knows."""

SERVED = "serving_default"
"""The signature that is served, unless there is only one."""

_NEEDED = ("tensorflow", "tf2onnx")
_LAST_WORDS = 400

_NOT_IN_A_GRAPH = frozenset(
    {"EagerPyFunc", "MatchingFiles", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile"}
)
"""Operators that touch files, or call Python. (`RestoreV2` and `SaveV2` are in every graph; they
are part of how TensorFlow reads variables, and not of what a signature runs.)"""

_DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}

_Shape = tuple[int | None, ...]


def convert(order: Order, folder: Path) -> str:
    """Write the graph, and cases that the model was run on; see `process.run`.

    Returns:
        What converted it.

    Raises:
        BuildFailed: TensorFlow isn't installed, the folder can't be loaded, or the graph has what
            can't be converted.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BuildFailed(
            f"Converting the SavedModel {order.path} needs {' and '.join(missing)}: run "
            "`pip install 'forebay[tensorflow]'` (some 250 MB to download), or convert it "
            "elsewhere with `python -m tf2onnx.convert`, and serve the file as `onnx:`."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # oneDNN adds up in another order on each kind of processor; what is compared need not.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    _check_operators(order.path)
    name, signature, _ = loaded = _loaded(order.path)
    cases.save(list(_cases(signature, order)), folder / CASES_FILE)
    del loaded
    _convert(order.path, name, folder / GRAPH_FILE)
    versions = (f"{one} {importlib.metadata.version(_package(one))}" for one in _NEEDED)
    return ", ".join(versions)


def _package(module: str) -> str:
    """The distribution that brings a module, which for TensorFlow has several names."""
    return importlib.metadata.packages_distributions()[module][0]


def _check_operators(path: str) -> None:
    from google.protobuf.message import DecodeError

    messages: Any = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2")

    file = Path(path) / "saved_model.pb"
    if not file.is_file():
        return  # as text, which is for people's eyes, and loaded all the same
    try:
        graph = messages.SavedModel.FromString(file.read_bytes())
    except DecodeError as error:
        raise BuildFailed(f"{file} is cut short or damaged: copy the folder again.") from error
    for meta in graph.meta_graphs:
        functions = meta.graph_def.library.function
        nodes = [*meta.graph_def.node, *(node for one in functions for node in one.node_def)]
        found = sorted({node.op for node in nodes} & _NOT_IN_A_GRAPH)
        if found:
            raise BuildFailed(
                f"{file} has the operator {found[0]}, which reads or writes files, or calls "
                "Python: take it out of the model, and save it again."
            )


def _loaded(path: str) -> tuple[str, Any, Any]:
    """The signature that is served: its name, it, and what it must not outlive."""
    tf: Any = importlib.import_module("tensorflow")

    try:
        model = tf.saved_model.load(path)
    except Exception as error:  # TensorFlow's errors share no base of their own
        said = _told(error)
        hint = (
            "It has operators of its own, which need a library that is not loaded: save the model "
            "without them"
            if "not registered" in said
            else f"Copy the folder again, or save it with TensorFlow {tf.__version__}"
        )
        raise BuildFailed(f"{path} can't be loaded: {said}. {hint}.") from error
    names = [name for name in model.signatures if not name.startswith("_")]
    if SERVED not in names and len(names) != 1:
        told = ", ".join(map(repr, names)) or "none"
        raise BuildFailed(
            f"{path} has no signature {SERVED!r}; it has {told}. Save it with "
            f"`tf.saved_model.save(model, folder, signatures={{{SERVED!r}: function}})`."
        )
    name = SERVED if SERVED in names else names[0]
    return name, model.signatures[name], model


def _cases(signature: Any, order: Order) -> Iterator[Case]:
    """Runs of the signature: with several values, and at another size of its dynamic axes."""
    takes = _takes(signature, order)
    shapes, first = _first(signature, order, takes)
    yield first
    for grown in (shapes, _grown(takes, shapes, rows=True), _grown(takes, shapes, rows=False)):
        case = _attempt(signature, takes, grown, seed=1)
        if case is not None:
            yield case


def _takes(signature: Any, order: Order) -> dict[str, tuple[str, _Shape]]:
    """Datatype and shape of each input, by name."""
    _, told = signature.structured_input_signature
    takes: dict[str, tuple[str, _Shape]] = {}
    for name, spec in told.items():
        datatype = _DATATYPES.get(spec.dtype.name)
        if datatype is None or spec.shape.rank is None:
            raise BuildFailed(
                f"{order.path} takes {name!r} as {spec.dtype.name} of the shape {spec.shape}: only "
                "tensors of numbers, bools and strings, with a known number of axes, can be "
                "served. Save the model with a signature that says so."
            )
        takes[name] = datatype, tuple(spec.shape.as_list())
    if not takes:
        raise BuildFailed(f"{order.path} takes no tensors: there is nothing to serve.")
    return takes


def _first(
    signature: Any, order: Order, takes: Mapping[str, tuple[str, _Shape]]
) -> tuple[dict[str, tuple[int, ...]], Case]:
    """Shapes that the signature takes, and a run with them."""
    tried = (
        [order.sample]
        if order.sample
        else [
            {
                name: tuple(
                    size if size is not None else cases.ROWS if axis == 0 else side
                    for axis, size in enumerate(shape)
                )
                for name, (_, shape) in takes.items()
            }
            for side in cases.SIZES
        ]
    )
    first_error: Exception | None = None
    for shapes in tried:
        try:
            return shapes, _run(signature, takes, shapes, seed=0)
        except Exception as error:  # TensorFlow's errors share no base of their own
            first_error = first_error or error
    assert first_error is not None
    told = ", ".join(
        f"{name} = {[-1 if size is None else size for size in shape]}"
        for name, (_, shape) in takes.items()
    )
    raise BuildFailed(
        f"{order.path} fails on all that was tried of {told}: {_told(first_error)}. Say shapes "
        f"that it takes as `sample` in [{order.where}]."
    ) from first_error


def _grown(
    takes: Mapping[str, tuple[str, _Shape]], shapes: Mapping[str, tuple[int, ...]], *, rows: bool
) -> dict[str, tuple[int, ...]]:
    """The same shapes with one row more, or with all other dynamic axes twice as long."""
    return {
        name: tuple(
            size
            if takes[name][1][axis] is not None or (axis == 0) is not rows
            else size + 1
            if rows
            else size * 2
            for axis, size in enumerate(shape)
        )
        for name, shape in shapes.items()
    }


def _attempt(
    signature: Any,
    takes: Mapping[str, tuple[str, _Shape]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    seed: int,
) -> Case | None:
    """A run, unless the model fails on it: not each size is one that it takes."""
    try:
        return _run(signature, takes, shapes, seed=seed)
    except Exception:  # TensorFlow's errors share no base of their own
        return None


def _run(
    signature: Any,
    takes: Mapping[str, tuple[str, _Shape]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    seed: int,
) -> Case:
    tf: Any = importlib.import_module("tensorflow")

    inputs = {
        name: cases.values(datatype, shapes[name], seed=seed)
        for name, (datatype, _) in takes.items()
    }
    with tf.device("/cpu:0"):
        given = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    outputs = {name: np.asarray(value.numpy()) for name, value in given.items()}
    texts = {name: value.astype(np.bytes_) for name, value in outputs.items() if value.dtype == "O"}
    return Case(inputs, {**outputs, **texts})


def _convert(path: str, signature: str, out: Path) -> None:
    """By tf2onnx's command, which is what it documents for a SavedModel."""
    command: Any = importlib.import_module("tf2onnx.convert")

    words = ["--saved-model", path, "--signature_def", signature, "--tag", "serve"]
    before = sys.argv
    sys.argv = ["tf2onnx.convert", *words, "--opset", str(OPSET), "--output", str(out)]
    try:
        command.main()
    except Exception as error:  # tf2onnx raises ValueError and whatever its handlers do
        raise BuildFailed(
            f"tf2onnx can't convert {path}: {_told(error)}. Take what it names out of the model."
        ) from error
    finally:
        sys.argv = before


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")[:_LAST_WORDS]
