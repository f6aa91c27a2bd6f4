"""What recording traces costs: the CPU of a request on the path alone, with them and without."""

import contextlib
import tempfile
from pathlib import Path

from tests.bench import guarded, usage, wrk
from tests.bench.forebay_server import ForebayServer, contenders
from tests.bench.loads import LEAD_S, Workload
from tests.bench.stats import Figures, spread

RECORDED = 0.2
"""Share of requests that are recorded here: at 5 % what they add is lost among what else varies."""

SHARE = 0.05
CONNECTIONS = 64
SECONDS = 5


def measure(root: Path, artifacts: Path, rounds: int) -> Figures:
    """Microseconds of CPU that 5 % of traces add to a request, of all processes together.

    Two servers are asked in turn, one of which records a fifth of its requests; a quarter of what
    that adds is told.

    Args:
        root: the repository.
        artifacts: folder of built models.
        rounds: how often each is measured.

    Raises:
        StartError: Forebay does not come up.
        LoadFailedError: wrk could not run.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-traced-")))
        address = stack.enter_context(guarded.collector())
        servers = []
        for name, env in (("off", {}), ("on", guarded.traced(address, RECORDED))):
            server = ForebayServer(
                root, home=folder / name, artifacts=artifacts, log=folder / f"{name}.log", env=env
            )
            stack.callback(server.stop)
            servers.append(server)
        for server in servers:
            server.wait_until_ready()
        added = []
        for _ in range(rounds):
            off, on = (_cpu_us(server, folder) for server in servers)
            added.append((on - off) * SHARE / RECORDED)
    found = spread(added)
    return {} if found is None else {"tracing-us": found}


def _cpu_us(server: ForebayServer, folder: Path) -> float:
    """CPU of a request, µs, all processes together."""
    target = contenders(server)[0].targets[Workload.NULL]
    bodies = folder / "bodies"
    bodies.write_bytes(target.encode("") + b"\n")
    before = usage.cpu_s([server.pid])
    measured = wrk.measure(
        target.url,
        bodies=bodies,
        marker=target.marker,
        headers=target.headers,
        connections=CONNECTIONS,
        seconds=SECONDS,
        lead_s=LEAD_S,
    )
    used = usage.used_between(before, usage.cpu_s([server.pid]))
    return sum(used.values()) / max(measured.sent, 1) * 1e6
