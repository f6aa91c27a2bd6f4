"""What is in a TorchScript file, looked at before PyTorch loads it.

The file is a zip archive: `ROOT/data.pkl` with the module's attributes, `ROOT/code/` with the code
of its methods, `ROOT/constants.pkl`, and a file for each tensor. The pickles are read by a reader
of TorchScript's own, which makes tensors and classes of the archive and calls nothing of Python:
unlike a checkpoint of `torch.save` it has no way to Python's code. But what is under `code/` is a
program for PyTorch's interpreter, parts of which run while it is loaded, and some of PyTorch's
operators read and write files. Code that names one of these is refused.
"""

import re
import zipfile
from pathlib import Path

from forebay.contract.errors import BuildFailed

_PICKLE = b"\x80"
_ZIP = b"PK\x03\x04"

_ON_FILES = re.compile(r"\b(from_file|save)\b")
"""PyTorch's operators that take the name of a file: `aten::from_file` and `aten::save`."""

_EXPORT = (
    "export the model with `torch.onnx.export` where it is at hand, and serve the file as `onnx:`"
)


def check(path: Path) -> None:
    """Make sure that a file is a whole TorchScript archive, whose code leaves files alone.

    Raises:
        BuildFailed: it is none; the message names the file, and says what to do.
    """
    if not path.is_file():
        raise BuildFailed(f"The TorchScript file {path} is not there.")
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == _PICKLE:
        raise _pickled(path)
    if start != _ZIP:
        raise BuildFailed(
            f"{path} is no TorchScript archive, or is damaged: save the model with "
            "`torch.jit.script(model).save(…)`, or copy the file again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise BuildFailed(f"{path} is damaged in {damaged}: fetch or copy it again.")
            _check_content(path, archive)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BuildFailed(
            f"{path} is cut short or damaged: {error}. Fetch or copy it again."
        ) from error


def _check_content(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    inside = {name.partition("/")[2] for name in names}
    code = [name for name in names if name.partition("/")[2].startswith("code/")]
    if any(name.endswith("models/model.json") for name in names):
        raise BuildFailed(
            f"{path} is a program of `torch.export`, and no TorchScript: make an ONNX file of it, "
            f'`torch.onnx.export(torch.export.load("{path.name}"), f="model.onnx")`, and serve '
            "that as `onnx:`."
        )
    if "data.pkl" not in inside or "constants.pkl" not in inside or not code:
        raise (
            _pickled(path)
            if "data.pkl" in inside
            else BuildFailed(
                f"{path} is a zip archive without TorchScript in it: save the model with "
                "`torch.jit.script(model).save(…)`."
            )
        )
    for name in code:
        if not name.endswith(".py"):
            continue
        found = _ON_FILES.search(archive.read(name).decode("utf-8", "replace"))
        if found:
            raise BuildFailed(
                f"{path} names {found[0]!r} in {name}, and PyTorch has an operator of that name "
                f"that reads or writes files: take it out of the model, or {_EXPORT}."
            )


def _pickled(path: Path) -> BuildFailed:
    return BuildFailed(
        f"{path} is a checkpoint of `torch.save`, a pickle, which can run any code when it is "
        "loaded. Save the model as TorchScript, `torch.jit.script(model).save(…)`, or "
        f"{_EXPORT}."
    )
