"""Bursts in a row, from no worker each time: is anything lost, and do replicas follow or flap?

    python -m tests.bench.bursts                          # ten
    python -m tests.bench.bursts 3 --plot bursts.png      # three, and a picture of them

A model that rests for 50 ms a row, so that more replicas help on any machine: from none to four.
A burst is 240 requests at once, each waiting for its answer, and the next one comes when no worker
is left. Told of each burst are how many were not answered right, when the first and the last were,
the most replicas, and how often their number rose again after it had fallen.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
from rich.console import Console

from tests.bench.forebay_server import ForebayServer, read_worker_model
from tests.bench.plots import HIGH, OTHERS, OURS, WIDE, save
from tests.bench.processes import StartError, command_line, descendants
from tests.bench.table import Table

ROOT = Path(__file__).parents[2]
MODEL = "rests"
REQUESTS = 240
LOOK_S = 0.1
GONE_S = 60.0
ANSWER_S = 120.0

CATALOG = f"""
[models.{MODEL}]
task = "python"
backend = "python"
source = "rests.py:Rests"
batch = {{ max_rows = 1, prefetch_rows = 1 }}
replicas = {{ min = 0, max = 4, stable_s = 3, idle_s = 5 }}
"""

CODE = """
import time

class Rests:
    samples = [{"n": 0}]

    def load(self):
        pass

    def predict(self, rows: list[dict[str, int]]) -> list[int]:
        time.sleep(0.05 * len(rows))
        return [row["n"] for row in rows]
"""


class Look(msgspec.Struct, frozen=True):
    """What was there at a time.

    Attributes:
        at_s: since the first burst.
        waiting: requests without an answer.
        workers: processes of the model.
    """

    at_s: float
    waiting: int
    workers: int


class Burst(msgspec.Struct, frozen=True):
    """What came of one burst.

    Attributes:
        first_s: until the first answer, since its requests were sent.
        last_s: likewise, the last.
        wrong: requests without their answer.
        looks: from its first request until no worker was left.
    """

    first_s: float
    last_s: float
    wrong: int
    looks: tuple[Look, ...]

    @property
    def most(self) -> int:
        """Workers there were at once."""
        return max(look.workers for look in self.looks)

    @property
    def flaps(self) -> int:
        """How often there were more workers again after there had been fewer."""
        steps = [after.workers - before.workers for before, after in pairwise(self.looks)]
        signs = [step > 0 for step in steps if step]
        return sum(not before and after for before, after in pairwise(signs))


async def measure(times: int) -> list[Burst]:
    """So many bursts.

    Raises:
        StartError: Forebay does not come up, or its workers do not go.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-bursts-") as name:
        folder = Path(name)
        (folder / "rests.py").write_text(CODE)
        models = folder / "models.toml"
        models.write_text(CATALOG)
        (folder / "artifacts").mkdir()
        server = ForebayServer(
            ROOT,
            home=folder / "home",
            artifacts=folder / "artifacts",
            log=folder / "log",
            models=models,
        )
        try:
            await asyncio.to_thread(server.wait_until_ready)
            begun = time.perf_counter()
            return [await _burst(server, begun) for _ in range(times)]
        finally:
            await asyncio.to_thread(server.stop)


async def _burst(server: ForebayServer, begun: float) -> Burst:
    since = time.perf_counter()
    answered: list[float] = []
    wrong = 0
    limits = httpx.Limits(max_connections=REQUESTS)
    url = f"http://127.0.0.1:{server.port}/v1/predictions"

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        nonlocal wrong
        body = {"version": MODEL, "input": {"n": number}}
        told: object = None
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.post(url, json=body, headers={"Prefer": "wait=60"})
            told = answer.json().get("output")
        wrong += told != number
        answered.append(time.perf_counter() - since)

    looks: list[Look] = []
    async with httpx.AsyncClient(timeout=ANSWER_S, limits=limits) as client:
        asked = asyncio.gather(*(ask(client, number) for number in range(REQUESTS)))
        while (there := _workers(server)) or not asked.done():
            if time.perf_counter() - since > GONE_S + ANSWER_S:
                raise StartError("Workers are still there, or requests without an answer.")
            waiting = REQUESTS - len(answered)
            looks.append(Look(time.perf_counter() - begun, waiting, there))
            await asyncio.sleep(LOOK_S)
        await asked
    looks.append(Look(time.perf_counter() - begun, 0, 0))
    return Burst(min(answered), max(answered), wrong, tuple(looks))


def _workers(server: ForebayServer) -> int:
    found = (read_worker_model(command_line(pid)) for pid in descendants(server.pid))
    return sum(model == MODEL for model in found)


def table(bursts: Sequence[Burst]) -> Table:
    """A row for each."""
    rows = [
        (
            str(number),
            str(burst.wrong),
            f"{burst.first_s:.2f}",
            f"{burst.last_s:.2f}",
            str(burst.most),
            str(burst.flaps),
        )
        for number, burst in enumerate(bursts, 1)
    ]
    head = ("burst", "not answered", "first, s", "last, s", "most workers", "flaps")
    return Table(f"{REQUESTS} requests at once, from no worker", head, tuple(rows))


def draw(bursts: Sequence[Burst], path: Path) -> None:
    """Requests without an answer, and workers, over time.

    Raises:
        ImportError: there is no matplotlib, which the `dev` extra brings.
    """
    import_module("matplotlib").use("Agg")
    plt = import_module("matplotlib.pyplot")
    looks = [look for burst in bursts for look in burst.looks]
    at = [look.at_s for look in looks]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(WIDE, HIGH))
    above.fill_between(at, [look.waiting for look in looks], color=OTHERS, step="post")
    above.set_ylabel("requests waiting")
    below.step(at, [look.workers for look in looks], color=OURS, where="post")
    below.set_ylabel("workers")
    below.set_xlabel("seconds")
    save(plt, figure, path)


def main() -> None:
    """Entry point: 1 if anything was lost or flapped."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bursts", description=__doc__)
    parser.add_argument("times", nargs="?", type=int, default=10, help="how many bursts")
    parser.add_argument("--plot", type=Path, help="a PNG file to draw them in")
    words = parser.parse_args()
    bursts = asyncio.run(measure(words.times))
    Console().print(table(bursts).rich())
    if words.plot:
        draw(bursts, words.plot)
    raise SystemExit(any(burst.wrong or burst.flaps for burst in bursts))


if __name__ == "__main__":
    main()
