"""TorchScript to ONNX, by PyTorch's older exporter, which keeps branches and loops.

PyTorch has deprecated both; the newer exporter traces modules of Python, and takes no script. So a
version of PyTorch that has dropped them ends this source, and nothing else.
"""

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forebay.build.conversion import cases
from forebay.build.conversion.cases import Case
from forebay.build.conversion.process import CASES_FILE, GRAPH_FILE, Order
from forebay.contract.errors import BuildFailed
from forebay.contract.signature import InputTensor

OPSET = 18
"""The last that PyTorch's older exporter was made for."""

_SEEDS = 2
_LAST_WORDS = 400

Sizes = Mapping[str, int]
"""How long each axis that has a name is."""


def convert(order: Order, folder: Path) -> str:
    """Write the graph, and cases that the script was run on; see `process.run`.

    Returns:
        What converted it.

    Raises:
        BuildFailed: the file can't be loaded, takes other tensors than are said, or has what can't
            be exported.
    """
    with _quiet(), torch.no_grad():
        script = _loaded(order.path)
        ran = _cases(script, order)
        _export(script, order, ran, folder / GRAPH_FILE)
    cases.save(ran, folder / CASES_FILE)
    return f"torch {torch.__version__}"


@contextmanager
def _quiet() -> Generator[None]:
    """Without the warning, at each step, that TorchScript is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _loaded(path: str) -> Any:
    load: Any = torch.jit.load
    try:
        return load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        said = _told(error)
        if "nknown builtin op" in said:
            raise BuildFailed(
                f"{path} can't be loaded: {said}. It has an operator of its own, which needs a "
                "library that is not loaded: export the model without it."
            ) from error
        raise BuildFailed(
            f"{path} can't be loaded: {said}. Save it again with this version of PyTorch, "
            f"{torch.__version__}."
        ) from error


def _cases(script: Any, order: Order) -> list[Case]:
    """Runs of the script: at one size with several values, and at another size of each axis."""
    number = _arguments(script)
    if number is not None and not number[0] <= len(order.inputs) <= number[1]:
        raise BuildFailed(
            f"`forward` of {order.path} takes {_range(*number)}, and [{order.where}.signature] "
            f"names {len(order.inputs)} inputs: name one for each, in order."
        )
    sizes, ran = _first(script, order)
    found = [ran, *(_case(script, order, sizes, seed=seed) for seed in range(1, _SEEDS))]
    found += [_grown(script, order, sizes, axis) for axis in sizes]
    return [case for case in found if case is not None]


def _first(script: Any, order: Order) -> tuple[Sizes, Case]:
    """Sizes that the script takes, and a run with them."""
    first_error: Exception | None = None
    for sizes in _tried(order):
        try:
            return sizes, _run(script, order, sizes, seed=0)
        except BuildFailed:
            raise
        except Exception as error:  # whatever a model raises
            first_error = first_error or error
    assert first_error is not None
    told = ", ".join(f"{one.name} = {list(one.shape)}" for one in order.inputs)
    raise BuildFailed(
        f"{order.path} fails on all that was tried of {told}: {_told(first_error)}. Correct "
        f"[{order.where}.signature], or say sizes that it takes, as `sample = "
        f"{{ {order.inputs[0].name} = {[2 for _ in order.inputs[0].shape]} }}` in [{order.where}]."
    ) from first_error


def _tried(order: Order) -> list[Sizes]:
    if order.sample:
        return [_said(order)]
    leading = {one.shape[0] for one in order.inputs if one.shape}
    names = [axis for one in order.inputs for axis in one.shape if isinstance(axis, str)]
    sizes = [
        {name: cases.ROWS if name in leading else size for name in names} for size in cases.SIZES
    ]
    return [one for index, one in enumerate(sizes) if one not in sizes[:index]]


def _said(order: Order) -> Sizes:
    """Sizes as `sample` says them."""
    sizes: dict[str, int] = {}
    for tensor in order.inputs:
        shape = order.sample.get(tensor.name, ())
        fits = len(shape) == len(tensor.shape) and order.sample.keys() <= {
            one.name for one in order.inputs
        }
        for axis, size in zip(tensor.shape, shape, strict=False):
            fits = fits and size == (
                sizes.setdefault(axis, size) if isinstance(axis, str) else axis
            )
        if not fits:
            raise BuildFailed(
                f"`sample` in [{order.where}] must say a shape for each input of its signature, "
                f"and no other; {tensor.name!r} is {list(tensor.shape)}."
            )
    return sizes


def _grown(script: Any, order: Order, sizes: Sizes, axis: str) -> Case:
    """A run with one axis longer."""
    for size in (sizes[axis] + 1, sizes[axis] * 2):
        case = _case(script, order, {**sizes, axis: size}, seed=0)
        if case is not None:
            return case
    raise BuildFailed(
        f"{order.path} takes no other size of {axis!r} than {sizes[axis]}, as far as was tried: "
        f"say {sizes[axis]} instead of the name in [{order.where}.signature]."
    )


def _case(script: Any, order: Order, sizes: Sizes, *, seed: int) -> Case | None:
    """A run, unless the script fails on it."""
    try:
        return _run(script, order, sizes, seed=seed)
    except BuildFailed:
        raise
    except Exception:  # whatever a model raises
        return None


def _run(script: Any, order: Order, sizes: Sizes, *, seed: int) -> Case:
    inputs = {
        one.name: cases.values(one.datatype, _shape(one, sizes), seed=seed) for one in order.inputs
    }
    outputs = _tensors(script(*(torch.from_numpy(value) for value in inputs.values())), order)
    names = _names(order, len(outputs))
    return Case(inputs, {name: one.numpy() for name, one in zip(names, outputs, strict=True)})


def _shape(tensor: InputTensor, sizes: Sizes) -> tuple[int, ...]:
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)


def _tensors(given: Any, order: Order) -> list[torch.Tensor]:
    """What a script gives, as the exporter lays it out."""
    if isinstance(given, torch.Tensor):
        return [given.detach()]
    if isinstance(given, tuple | list):
        return [tensor for one in given for tensor in _tensors(one, order)]
    raise BuildFailed(
        f"{order.path} gives a {type(given).__name__}, and only tensors, or tuples of them, can be "
        "exported: script a module around it that gives those."
    )


def _names(order: Order, number: int) -> tuple[str, ...]:
    if not order.outputs:
        return ("output",) if number == 1 else tuple(f"output_{at}" for at in range(number))
    if len(order.outputs) != number:
        raise BuildFailed(
            f"{order.path} gives {number} tensors, and [{order.where}.signature] names "
            f"{len(order.outputs)} outputs: name one for each."
        )
    return order.outputs


def _export(script: Any, order: Order, ran: Sequence[Case], out: Path) -> None:
    """Write the graph; an axis that differs between runs is dynamic."""
    first = ran[0]
    dynamic = {
        one.name: {at: axis for at, axis in enumerate(one.shape) if isinstance(axis, str)}
        for one in order.inputs
    }
    for name, value in first.outputs.items():
        shapes = [case.outputs[name].shape for case in ran]
        dynamic[name] = {
            at: f"{name}_{at}"
            for at in range(value.ndim)
            if len({shape[at] for shape in shapes}) > 1
        }
    try:
        torch.onnx.export(
            script,
            tuple(torch.from_numpy(np.asarray(value)) for value in first.inputs.values()),
            str(out),
            input_names=list(first.inputs),
            output_names=list(first.outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    except Exception as error:  # the exporter's own, and whatever its passes raise
        raise BuildFailed(
            f"PyTorch can't export {order.path} to ONNX: {_told(error)}. Take what it names out of "
            "the model, or export the module that the script was made of, with "
            "`torch.onnx.export(module, args, dynamo=True)`."
        ) from error


def _arguments(script: Any) -> tuple[int, int] | None:
    """The fewest and the most arguments of `forward`; None where they aren't known."""
    try:
        arguments = list(script.forward.schema.arguments)[1:]  # without self
    except (AttributeError, RuntimeError):
        return None
    return sum(not one.has_default_value() for one in arguments), len(arguments)


def _range(fewest: int, most: int) -> str:
    return f"{most} arguments" if fewest == most else f"{fewest} to {most} arguments"


def _told(error: Exception) -> str:
    """The line in which PyTorch says what is wrong: of a script's own trace the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = lines[-1] if lines[0].startswith("The following operation failed") else lines[0]
    return said.rstrip(".")[:_LAST_WORDS]
