"""Conversion in a process of its own.

    convert ──Order, on stdin──▶ python -m forebay.build.conversion.process ──▶ graph, cases, Told

What it leaves are files: libraries print what they like, from C++ too.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from forebay.contract.errors import BuildFailed
from forebay.contract.signature import InputTensor

GRAPH_FILE = "converted.onnx"
CASES_FILE = "cases.npz"
TOLD_FILE = "told.json"

_LAST_WORDS = 500


class Order(msgspec.Struct, frozen=True):
    """What is to be converted.

    Attributes:
        kind: how the source begins, as `TORCHSCRIPT` or `SAVED_MODEL`.
        path: absolute.
        where: the model's table in the catalog, for errors.
        inputs: what a TorchScript file takes.
        outputs: what to call what it gives.
        sample: shapes to run it on, by input, where somebody has said them.
    """

    kind: str
    path: str
    where: str
    inputs: tuple[InputTensor, ...] = ()
    outputs: tuple[str, ...] = ()
    sample: dict[str, tuple[int, ...]] = {}


class Told(msgspec.Struct, frozen=True):
    """What became of an order.

    Attributes:
        error: why it failed; empty if it did not.
        library: what converted it, and in which version.
    """

    error: str = ""
    library: str = ""


def run(order: Order, folder: Path) -> Told:
    """Convert, and leave `converted.onnx` and `cases.npz` in a folder that is there.

    Raises:
        BuildFailed: it can't be converted.
    """
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "forebay.build.conversion.process", str(folder)],
        input=msgspec.json.encode(order),
        # tf2onnx names what it makes in the order of sets; with a seed it does so alike each time.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][-_LAST_WORDS:]
        raise BuildFailed(
            f"The process that converts {order.path} ended {_ending(done.returncode)}"
            f"{': ' + last if last else ''}. The file may be damaged: copy it again."
        )
    told = msgspec.json.decode((folder / TOLD_FILE).read_bytes(), type=Told)
    if told.error:
        raise BuildFailed(told.error)
    return told


def _ending(code: int) -> str:
    if code >= 0:
        return f"with the exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by the signal {-code}"


def main() -> None:
    """Do the `Order` that comes on stdin, and leave `Told` beside what it made."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    folder = Path(sys.argv[1])
    try:
        told = _convert(order, folder)
    except BuildFailed as error:
        told = Told(error=error.message)
    (folder / TOLD_FILE).write_bytes(msgspec.json.encode(told))


def _convert(order: Order, folder: Path) -> Told:
    from forebay.contract.signature import TORCHSCRIPT

    if order.kind == TORCHSCRIPT:
        from forebay.build.conversion import torchscript

        return Told(library=torchscript.convert(order, folder))
    from forebay.build.conversion import saved_model

    return Told(library=saved_model.convert(order, folder))


if __name__ == "__main__":
    main()
