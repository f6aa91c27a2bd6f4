"""The load generator: wrk, one thread, a closed loop of so many connections."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.bench.stats import Measurement

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_S = 10
HOW_TO_GET_IT = (
    "The benchmark needs wrk on PATH to make load. "
    "Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk."
)


class LoadFailedError(RuntimeError):
    """wrk itself did not run, or said nothing that can be read."""


class Tally(msgspec.Struct, frozen=True):
    """What load.lua reports.

    Attributes:
        responses: all that came back, right or wrong, the lead-in's included.
        right: those after the lead-in that were right.
        wrong: those with a status other than 2xx, or without the text a right answer holds.
        connect: connections refused; likewise `read` and `write`: no response came.
        timeout: responses that came too late.
        counted_us: how long `right` was counted for.
        p50_us: latency over all responses; likewise the other percentiles.
    """

    responses: int
    right: int
    wrong: int
    connect: int
    read: int
    write: int
    timeout: int
    counted_us: int
    p50_us: int
    p90_us: int
    p99_us: int

    def measurement(self, connections: int) -> Measurement:
        """Only what was answered right and in time counts as answered."""
        measured = Measurement(
            answered=max(0, self.right - self.timeout),
            failed=self.wrong + self.timeout + self.connect + self.read + self.write,
            seconds=self.counted_us / 1e6,
            sent=self.responses + connections,
        )
        if not self.responses:
            return measured
        return msgspec.structs.replace(
            measured,
            p50_ms=self.p50_us / 1e3,
            p90_ms=self.p90_us / 1e3,
            p99_ms=self.p99_us / 1e3,
        )


def read_tally(stderr: str) -> Tally:
    """The tally in what wrk wrote to stderr: its last line.

    Raises:
        LoadFailedError: there is none; the message holds what wrk wrote.
    """
    lines = stderr.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else "", type=Tally)
    except msgspec.MsgspecError as error:
        raise LoadFailedError(f"wrk gave no tally: {stderr.strip()[-500:] or error}") from error


def find() -> str | None:
    """Path of wrk, if it is installed."""
    return shutil.which("wrk")


def measure(
    url: str,
    *,
    bodies: Path,
    marker: str,
    headers: Mapping[str, str],
    connections: int,
    seconds: int,
    lead_s: int,
) -> Measurement:
    """Load one address and count.

    The lead-in is part of the same stretch of load, so counting begins and ends with the system
    busy and its batches full; a count from a cold start would cheat systems with large batches.

    Args:
        bodies: one request body a line, sent in turn from the first on.
        marker: a text that every right answer holds.
        seconds: how long to count; wrk knows whole seconds only.
        lead_s: how long to load it before.

    Raises:
        LoadFailedError: wrk could not run, or did not end.
    """
    command = [find() or "wrk", "-t1", f"-c{connections}", f"-d{lead_s + seconds}s"]
    command += [f"--timeout={TIMEOUT_S}s", f"--script={SCRIPT}"]
    for name, value in {"Content-Type": "application/json", **headers}.items():
        command += ["-H", f"{name}: {value}"]
    command += [url, "--", str(bodies), marker, str(lead_s)]
    limit_s = lead_s + seconds + 2 * TIMEOUT_S
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise LoadFailedError(f"wrk did not end within {limit_s} s.") from None
    if done.returncode:
        raise LoadFailedError(f"wrk ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return read_tally(done.stderr).measurement(connections)
