"""Starts processes that serve one candidate each, and asks them."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from forebay.contract.errors import BackendFailed
from forebay.contract.model import ModelSpec
from forebay.tune.orders import Answer, Arrive, Failed, Order, Ready, Saturate, Setup, Stretch

START_S = 300.0
"""A model that takes longer to load than this is taken for hung."""

SLACK_S = 60.0
"""By so much a stretch may take longer than it should, beside the time of one pass."""

MOST_LIVE = 8
"""So many processes are kept, warm and idle, for when their turn comes again."""

A = TypeVar("A", Ready, Stretch)

_decoder = msgspec.json.Decoder[Answer](Answer)


class Trial:
    """One process, and its model warm in it.

    Args:
        spec: the candidate.
        home: holds its artifact.
        traffic: file of the rows to run.

    Raises:
        ForebayError: the model doesn't load, or its process ended.
    """

    def __init__(self, spec: ModelSpec, *, home: Path, traffic: Path) -> None:
        self._pass_s = spec.batch.timeout_s
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "forebay.tune.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us to hear
        )
        self._rest = b""
        try:
            setup = Setup(spec, str(home.absolute()), str(traffic.absolute()))
            self.ready = self._ask(setup, Ready, within_s=START_S)
        except BaseException:
            self.close()
            raise

    def run(self, order: Saturate | Arrive) -> Stretch:
        """Have a stretch run.

        Raises:
            ForebayError: the model failed, or its process ended.
        """
        lead_s = order.lead_s if isinstance(order, Saturate) else 0.0
        within_s = lead_s + 3 * order.seconds + self._pass_s + SLACK_S
        return self._ask(order, Stretch, within_s=within_s)

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _ask(self, order: Order, expected: type[A], *, within_s: float) -> A:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        answer = _decoder.decode(self._line(within_s))
        if isinstance(answer, Failed):
            raise BackendFailed(answer.message)
        assert isinstance(answer, expected)
        return answer

    def _line(self, within_s: float) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + within_s
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise BackendFailed(f"It has not answered within {within_s:.0f} s.")
            part = os.read(self._process.stdout.fileno(), 1 << 20)
            if not part:
                raise self._ended()
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> BackendFailed:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return BackendFailed("Its process was killed: most likely there is not enough memory.")
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        why = lines[-1] if lines else "it said nothing"
        return BackendFailed(f"Its process ended with exit code {code}: {why}")


class Trials:
    """Processes by number: started when first asked for, a few of them kept.

    Args:
        traffic: file of the rows to run.
        most_bytes: they may hold together, so that what is measured is not swapped out.
    """

    def __init__(self, *, traffic: Path, most_bytes: int) -> None:
        self._traffic = traffic
        self._most_bytes = most_bytes
        self._live: OrderedDict[int, Trial] = OrderedDict()

    def of(self, number: int, spec: ModelSpec, home: Path) -> Trial:
        """The process that serves a candidate.

        Args:
            number: the candidate's.
            spec: its settings.
            home: holds its artifact.

        Raises:
            ForebayError: the model doesn't load.
        """
        if number in self._live:
            self._live.move_to_end(number)
            return self._live[number]
        self._make_room()
        trial = Trial(spec, home=home, traffic=self._traffic)
        self._live[number] = trial
        return trial

    def end(self, number: int) -> None:
        """End a candidate's process, if there is one."""
        if trial := self._live.pop(number, None):
            trial.close()

    def close(self) -> None:
        """End all of them."""
        for number in list(self._live):
            self.end(number)

    def _make_room(self) -> None:
        """End those that were not asked for longest."""
        while self._live:
            held = [trial.ready.memory_bytes for trial in self._live.values()]
            if len(held) < MOST_LIVE and sum(held) + max(held) <= self._most_bytes:
                break
            self.end(next(iter(self._live)))


def available_bytes() -> int:
    """Memory that processes could still take; where Linux doesn't tell, all that there is."""
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1_024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _environment() -> dict[str, str]:
    """This process's, and what it imports from: it may not be installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
