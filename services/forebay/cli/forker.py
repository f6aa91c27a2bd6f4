"""Becomes workers: imports once what workers import, and forks one whenever it is asked.

    supervisor ──command, environment, where its output goes──▶ forker ──fork──▶ go-between
        ▲                                                                            │ fork
        └────────────────────────── its process id ◀── worker ◀──────────────────────┘

The go-between ends at once, so the worker becomes the child of the supervisor, who has asked for
that (`PR_SET_CHILD_SUBREAPER`): it is waited for, signalled and restarted like any other, and a
forker that ends takes nobody with it. Forked is only what has no threads but numpy's, which see to
themselves; so ONNX Runtime, whose import starts one, is left to the workers. Decision 0069.

    python -m forebay.cli.forker SOCKET MODULE …
"""

import contextlib
import ctypes
import gc
import importlib
import io
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from forebay.local.forks import MESSAGE_BYTES, Order

POLL_S: Final = 0.0005

_decoder = msgspec.msgpack.Decoder(Order)


def main() -> None:
    """Fork until the supervisor hangs up; in a worker, be one."""
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        for name in sys.argv[2:]:
            importlib.import_module(name)
        # What is there is never collected: a collector that looked at it would copy its pages.
        gc.collect()
        gc.freeze()
        order = _serve(asked)
    if order is not None:
        from forebay.cli.main import main as cli

        sys.argv = ["forebay", *order.words]
        cli()


def _serve(asked: socket.socket) -> Order | None:
    """Fork as told; returns in each worker with what it is to be, and here once nobody asks."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, MESSAGE_BYTES, 1)
        if not message:
            return None
        order = _decoder.decode(message)
        between = os.fork()
        if between == 0:
            between = os.getpid()
            try:
                if os.fork():
                    os._exit(0)
            except BaseException:
                os._exit(1)
            _become(order, output=descriptors[0], asked=asked, between=between)
            return order
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(between, 0)


def _become(order: Order, *, output: int, asked: socket.socket, between: int) -> None:
    """Make this fork a process of its own, as if it had been started with that command."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for descriptor in (nothing, output):
        os.close(descriptor)
    # Those that are there are of what the forker had: a file, which could be sought in.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _said_on(1)
    sys.stderr = _said_on(2, errors="backslashreplace")
    sys.orig_argv[:] = [sys.executable, "-m", "forebay.cli", *order.words]
    _call_it(" ".join(sys.orig_argv))
    os.environ.clear()
    os.environ.update(order.env)
    random.seed()
    if (generator := sys.modules.get("numpy.random")) is not None:
        generator.seed()
    # Whose child it is must be settled before it is told of.
    while os.getppid() == between:
        time.sleep(POLL_S)
    with contextlib.suppress(OSError):  # who has asked may be gone; its guard knows nothing of us
        asked.send(str(os.getpid()).encode())


def _call_it(command: str) -> None:
    """Have the system show another command line, cut where it is longer than ours was.

    It is read from where the arguments are, up to their end; or, if the last byte there is none of
    a string's end, up to the first of those (proc(5), `/proc/PID/cmdline` and `/proc/PID/stat`).
    """
    numbers = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    start, end = int(numbers[45]), int(numbers[46])
    if end - start > 2:
        shown = command.encode()[: end - start - 2]
        ctypes.memmove(start, shown.ljust(end - start - 1, b"\0") + b"!", end - start)


def _said_on(descriptor: int, *, errors: str = "strict") -> io.TextIOWrapper:
    """A text stream that keeps nothing back, as with `PYTHONUNBUFFERED`."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)


if __name__ == "__main__":
    main()
