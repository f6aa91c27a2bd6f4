"""What recording traces costs: the CPU of a request on the path alone, with them and without."""

import contextlib
import tempfile
from pathlib import Path

from tests.bench import guarded, usage, wrk
from tests.bench.forebay_server import ForebayServer, contenders
from tests.bench.loads import LEAD_S, Workload
from tests.bench.stats import Figures, spread

RECORDED = 1.0
"""Share of requests that are recorded here.

At 5 %, and even at 20 %, what they add is lost among what else varies: the same server takes a
fifth more or less a few seconds later. What a recorded request costs is the same at any share, but
for a batch's span, which is made if any of its requests is recorded: at 5 % there are 0.02 more of
those for each request than a twentieth of what there is here, some 0.5 µs.
"""

SHARE = 0.05
CONNECTIONS = 64
SECONDS = 5

OFF, ON = 0, 1

PASSED = ("gateway", "Redis", "worker echo")
"""What a request passes; others take so much a second, whatever is asked."""


def measure(root: Path, artifacts: Path, rounds: int) -> Figures:
    """Microseconds of CPU that 5 % of traces add to a request, of all processes that it passes.

    Two servers are asked, one of which records all of its requests; a twentieth of what that adds
    is told. In a round each is asked twice, the first one last again, so that a machine that grows
    slower or faster meanwhile makes no difference.

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
            first, second, third, last = (_cpu_us(servers[at], folder) for at in (OFF, ON, ON, OFF))
            added.append((second + third - first - last) / 2 * SHARE / RECORDED)
    found = spread(added)
    return {} if found is None else {"tracing-us": found}


def _cpu_us(server: ForebayServer, folder: Path) -> float:
    """CPU of a request, µs, of all processes that it passes."""
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
    return sum(used.get(one, 0) for one in PASSED) / max(measured.sent, 1) * 1e6
