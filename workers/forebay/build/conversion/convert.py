"""A source converted to ONNX, and held against what it gave itself."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto

from forebay.build import graph, onnx_file
from forebay.build.conversion import archive, cases, folder, process
from forebay.build.conversion.cases import Case
from forebay.build.conversion.process import CASES_FILE, GRAPH_FILE, Order
from forebay.build.onnx_file import OnnxFile
from forebay.contract.errors import BuildFailed
from forebay.contract.model import ONNX_FILE, ModelSpec
from forebay.contract.rows import Task
from forebay.contract.signature import CONVERTED, TORCHSCRIPT, Conversion, InputTensor

TOLERANCE = 1e-4
"""Largest difference between the graph's output and the source's, in units of its largest value."""


class Converted(msgspec.Struct, frozen=True):
    """What a conversion gives.

    Attributes:
        file: the graph, checked as any ONNX file is.
        sha256: hash of the source.
        conversion: what did it, and how far its answers are from the source's.
    """

    file: OnnxFile
    sha256: str
    conversion: Conversion


def convert(spec: ModelSpec, work: Path, *, threads: int) -> Converted:
    """Make an ONNX file of a TorchScript file or a SavedModel.

    Args:
        spec: the model.
        work: where to leave it.
        threads: of the session.

    Raises:
        BuildFailed: the source isn't whole, can't be converted, or its graph gives something else
            than the source does; the message names the file, and says what to do.
    """
    kind = next(one for one in CONVERTED if spec.source.startswith(one))
    path = Path(spec.folder, Path(spec.source.removeprefix(kind)).expanduser()).absolute()
    if kind == TORCHSCRIPT:
        archive.check(path)
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    else:
        folder.check(path)
        sha256 = folder.sha256_of(path)
    order = Order(
        kind,
        str(path),
        f"models.{spec.name}",
        inputs=_inputs(spec) if kind == TORCHSCRIPT else (),
        outputs=spec.signature.outputs,
        sample=dict(spec.sample),
    )
    library = process.run(order, work).library
    made = work / "graph"
    made.mkdir()
    ran = cases.load(work / CASES_FILE)
    model = _read(path, work / GRAPH_FILE)
    _check_operators(path, model)
    _tell_shapes(model, ran)
    _clean(model)
    graph.save_mapped(model, made)
    file = onnx_file.read(
        f"{ONNX_FILE}{made / graph.MODEL_FILE}",
        base=made,
        threads=threads,
        name=f"The graph of {path}",
    )
    return Converted(file, sha256, Conversion(library, len(ran), _compared(path, file, ran)))


def _inputs(spec: ModelSpec) -> tuple[InputTensor, ...]:
    """What a TorchScript file takes: the image that the catalog describes, or its signature."""
    if spec.task is Task.IMAGE_CLASSIFICATION:
        return (InputTensor("pixel_values", "FP32", ("rows", *spec.image.shape)),)
    return spec.signature.tensors


def _read(path: Path, converted: Path) -> ModelProto:
    try:
        model: ModelProto = onnx.load(str(converted))
    except (OSError, DecodeError, ValueError) as error:
        raise BuildFailed(f"{path} was converted to a file that can't be read: {error}.") from error
    return model


def _check_operators(path: Path, model: ModelProto) -> None:
    """Make sure that ONNX knows each operator: tf2onnx leaves those that it can't convert.

    Raises:
        BuildFailed: it doesn't.
    """
    opsets = {one.domain: one.version for one in model.opset_import}
    unknown = sorted(
        {
            node.op_type
            for node in model.graph.node
            if not node.domain and not onnx.defs.has(node.op_type, opsets.get("", 1), "")
        }
    )
    if unknown:
        raise BuildFailed(
            f"{path} has operators that ONNX has nothing for: {', '.join(unknown[:5])}. Take them "
            "out of the model."
        )


def _tell_shapes(model: ModelProto, ran: Sequence[Case]) -> None:
    """Give outputs that have no shape the one that was seen; an axis that differed is dynamic."""
    for output in model.graph.output:
        kind = output.type.tensor_type
        seen = [case.outputs[output.name].shape for case in ran if output.name in case.outputs]
        if kind.HasField("shape") or len({len(shape) for shape in seen}) != 1:
            continue
        kind.shape.SetInParent()
        for at, sizes in enumerate(zip(*seen, strict=True)):
            dim = kind.shape.dim.add()
            if len(set(sizes)) == 1:
                dim.dim_value = sizes[0]
            else:
                dim.dim_param = f"{output.name}_{at}"


def _clean(model: ModelProto) -> None:
    """Take out traces of where the graph was made: the artifact's digest covers it."""
    graphs: list[GraphProto] = [model.graph]
    while graphs:
        one = graphs.pop()
        one.doc_string = ""
        for node in one.node:
            node.doc_string = ""
            del node.metadata_props[:]
            for attribute in node.attribute:
                graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    model.graph.name = "converted"
    model.producer_name, model.producer_version, model.doc_string = "forebay", "", ""
    del model.metadata_props[:], model.graph.metadata_props[:]


def _compared(path: Path, file: OnnxFile, ran: Sequence[Case]) -> float:
    """Run the graph on what the source has been run on.

    Raises:
        BuildFailed: it fails there, or gives something else.
    """
    largest = 0.0
    names = [one.name for one in file.outputs]
    for case in ran:
        told = ", ".join(f"{name} {list(value.shape)}" for name, value in case.inputs.items())
        try:
            given = file.session.run(names, dict(case.inputs))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            said = str(error).strip().splitlines()[0][:300]
            raise BuildFailed(
                f"{file.name} fails on {told}, on which the source does "
                f"not: {said}. Give axes that can't differ a size, or export it elsewhere."
            ) from error
        for name, got in zip(names, given, strict=True):
            difference = cases.difference(case.outputs.get(name), got)
            if not difference < TOLERANCE:
                raise BuildFailed(
                    f"{file.name} gives another {name!r} for {told} "
                    f"than the source: {difference:.2g} of the largest value, and {TOLERANCE:.0e} "
                    "is allowed. A model that draws random numbers can't be held against itself; "
                    "else export it elsewhere."
                )
            largest = max(largest, difference)
    return largest
