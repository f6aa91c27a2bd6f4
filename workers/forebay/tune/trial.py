"""A process that serves one candidate as a worker would, and runs what it is told to.

    python -m forebay.tune.trial      orders on stdin, answers on stdout, one a line (`orders`)

It ends when its stdin does.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

# For its memory: what a worker imports counts for every candidate alike.
import forebay.inference.worker  # noqa: F401 # pyright: ignore[reportUnusedImport]
from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Row
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import load
from forebay.inference.memory import give_back_large_blocks, peak_bytes, resident_bytes
from forebay.storage.artifacts import ArtifactStore
from forebay.tune import traffic
from forebay.tune.engine import Ended, Engine
from forebay.tune.orders import Answer, Arrive, Failed, Order, Ready, Saturate, Setup, Stretch

_BEGAN = time.monotonic()


class Trial:
    """One candidate, loaded and warm.

    Args:
        setup: says which.

    Raises:
        ForebayError: it doesn't load, or refuses a row of the traffic.
    """

    def __init__(self, setup: Setup) -> None:
        give_back_large_blocks()
        self._rows = traffic.read_back(Path(setup.traffic))
        backend = load(setup.spec, ArtifactStore(setup.home))
        backend.warm()
        started = time.monotonic() - _BEGAN
        lengths = [_length(backend, row, number) for number, row in enumerate(self._rows, 1)]
        self._engine = Engine(backend, setup.spec.batch)
        self.ready = Ready(
            version=backend.version,
            streams=backend.streams,
            start_ms=1_000 * started,
            shortest=min(lengths),
            longest=max(lengths),
            memory_bytes=resident_bytes(),
        )

    async def obey(self, order: Saturate | Arrive) -> Stretch:
        """Run a stretch."""
        if isinstance(order, Saturate):
            passes = await self._engine.saturate(self._rows, order)
            # From the end of one pass to that of another: a pass that is cut counts for nothing.
            first, *counted = passes
            seconds = counted[-1].at - first.at
            return _stretch(counted, seconds=seconds, arrived=_rows(counted), latencies=False)
        passes, arrived = await self._engine.arrive(self._rows, order)
        return _stretch(passes, seconds=order.seconds, arrived=arrived, latencies=True)

    def close(self) -> None:
        """Free the model."""
        self._engine.close()


def _stretch(passes: list[Ended], *, seconds: float, arrived: int, latencies: bool) -> Stretch:
    waited = [1_000 * (one.at - came) for one in passes for came in one.arrivals]
    return Stretch(
        seconds=seconds,
        rows=len(waited),
        passes=len(passes),
        arrived=arrived,
        latencies_ms=tuple(round(ms, 3) for ms in waited) if latencies else (),
        unfinished=arrived - len(waited),
        memory_bytes=peak_bytes(),
    )


def _rows(passes: list[Ended]) -> int:
    return sum(len(one.arrivals) for one in passes)


def _length(backend: Backend, row: Row, number: int) -> int:
    (prepared,) = backend.prepare([row], truncate=True)
    if isinstance(prepared, InvalidInput):
        raise InvalidInput(f"The model refuses row {number} of the traffic: {prepared.message}")
    return prepared.length


def main() -> None:
    """Obey until stdin ends."""
    # Ctrl-C is for whoever started this, and that one closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a user's class may print
    decoder = msgspec.json.Decoder[Order](Order)

    def answer(told: Answer) -> None:
        answers.write(msgspec.json.encode(told) + b"\n")

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            _serve(map(decoder.decode, sys.stdin.buffer), answer, runner)
    except ForebayError as error:
        answer(Failed(error.message))
        raise SystemExit(1) from None


def _serve(
    orders: Iterator[Order], answer: Callable[[Answer], None], runner: asyncio.Runner
) -> None:
    trial: Trial | None = None
    for order in orders:
        if isinstance(order, Setup):
            trial = Trial(order)
            answer(trial.ready)
        elif trial is not None:
            answer(runner.run(trial.obey(order)))
    if trial is not None:
        trial.close()


if __name__ == "__main__":
    main()
