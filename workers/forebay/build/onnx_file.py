"""A model that is an ONNX file already: found, checked, and copied as it is.

What is checked, in this order: that it is there and no pickle, that it is ONNX and whole, that its
external data are beside it, that it keeps to the standard (the onnx checker), and that ONNX Runtime
can run it.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from forebay.build.graph import MODEL_FILE
from forebay.build.source import in_package
from forebay.contract.errors import BuildFailed
from forebay.contract.model import ONNX_FILE
from forebay.contract.tensors import ANY, BYTES, TensorSpec

_PACKAGE = "package:"
_PICKLE = b"\x80"
_ZIP = b"PK\x03\x04"
"""What PyTorch's checkpoints begin with: a pickle, or a zip archive of one."""

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": BYTES,
}
"""ONNX Runtime's names of what the Open Inference Protocol has a datatype for."""


class OnnxFile(msgspec.Struct, frozen=True):
    """An ONNX file that has passed all checks.

    Attributes:
        path: where it is.
        name: what errors call it.
        outside: files with external data, relative to the file's folder.
        sha256: hash over the file, and over those with external data in order of name.
        inputs: what it takes.
        outputs: what it gives.
        session: has it loaded.
    """

    path: Path
    name: str
    outside: tuple[str, ...]
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: Any

    def copy(self, folder: Path) -> None:
        """Put it into an artifact's folder, its bytes unchanged, with its external data."""
        shutil.copyfile(self.path, folder / MODEL_FILE)
        for name in self.outside:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path.parent / name, target)


def read(source: str, *, base: Path, threads: int, name: str = "") -> OnnxFile:
    """Find a file and check it.

    Args:
        source: `onnx:path/to/file.onnx`, or `onnx:package:NAME/FILE.onnx` for one inside an
            installed package, which is not imported.
        base: folder that a path is relative to.
        threads: of the session.
        name: what errors call it; its path if not given.

    Raises:
        BuildFailed: there is no such file, or it fails a check; the message names the file, and
            says what to do.
    """
    rest = source.removeprefix(ONNX_FILE)
    path = (
        in_package(rest, form=f"{ONNX_FILE}{_PACKAGE}NAME/FILE.onnx")
        if rest.startswith(_PACKAGE)
        else base / Path(rest).expanduser()
    )
    if not path.is_file():
        raise BuildFailed(f"The source {source!r} is not there: {path} is no file.")
    name = name or str(path)
    model = _parsed(path)
    outside = _external(path, model)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BuildFailed(
            f"{name} is not valid ONNX: {_first_line(error)}. Export the model again."
        ) from error
    session = _session(path, model, threads, name)
    digest = hashlib.sha256()
    for each in (path, *(path.parent / one for one in outside)):
        with each.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return OnnxFile(
        path,
        name,
        outside,
        digest.hexdigest(),
        _specs(name, session.get_inputs()),
        _specs(name, session.get_outputs()),
        session,
    )


def _parsed(path: Path) -> ModelProto:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == _PICKLE or start == _ZIP:
        raise BuildFailed(
            f"{path} is no ONNX file but a pickle or an archive, such as PyTorch saves, which can "
            "run any code when it is loaded: export the model with `torch.onnx.export`."
        )
    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BuildFailed(
            f"{path} is no ONNX file, or is cut short: {_first_line(error)}. Fetch or copy it "
            "again."
        ) from error
    if not model.graph.node:
        raise BuildFailed(f"{path} holds no ONNX graph, or is cut short. Fetch or copy it again.")
    return model


def _external(path: Path, model: ModelProto) -> tuple[str, ...]:
    """Files with external data, each of them there and large enough."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            end = int(info.offset or 0) + int(info.length or 0)
            needed[info.location] = max(end, needed.get(info.location, 0))
    for name, size in needed.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name or name == MODEL_FILE:
            raise BuildFailed(
                f"{path} keeps weights in {name!r}, and they must be in a file of another name in "
                "its own folder: save it again with `onnx.save_model`."
            )
        file = path.parent / name
        have = file.stat().st_size if file.is_file() else None
        if have is None or have < size:
            trouble = "is missing" if have is None else f"is cut short at {have:,} bytes"
            raise BuildFailed(
                f"{file} {trouble}, and {path.name} keeps weights in it: put the whole file "
                "beside it."
            )
    return tuple(sorted(needed))


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All constants, those of nodes and of graphs within nodes included."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t


def _session(path: Path, model: ModelProto, threads: int, name: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is told by the error
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        standard = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
        own = sorted({n.op_type for n in model.graph.node if n.domain not in standard})
        hint = (
            f"It has operators of its own ({', '.join(own[:5])}), which need a library that is "
            "not loaded: export the model without them."
            if own
            else "Export the model again, for an opset that this version knows."
        )
        raise BuildFailed(f"ONNX Runtime can't run {name}: {_first_line(error)}. {hint}") from error


def _specs(name: str, edges: list[Any]) -> tuple[TensorSpec, ...]:
    found: list[TensorSpec] = []
    for edge in edges:
        datatype = _DATATYPES.get(edge.type)
        if datatype is None:
            raise BuildFailed(
                f"{name} has {edge.name!r} of the type {edge.type}: only tensors of numbers, bools "
                "and strings can be served. Export the model without it."
            )
        shape = tuple(
            size if isinstance(size, int) and size >= 0 else ANY for size in edge.shape or ()
        )
        found.append(TensorSpec(edge.name, datatype, shape))
    return tuple(found)


def _first_line(error: Exception) -> str:
    """The first line of what a library says, which is where it says it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:500]
