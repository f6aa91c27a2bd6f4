"""What a caller who asks for little feels of one who asks for much.

    python -m tests.bench.fair              # once
    python -m tests.bench.fair 3            # or so often

MiniLM from the artifact store of the settings' home, and API keys. The quiet one sends 20 texts a
second (an open loop), the noisy one keeps so many requests going (a closed loop). In turn: the
quiet one alone; then for each kind of noise the noisy one alone, and both. Told are the quiet one's
percentiles in proportion to those alone, and what all get in proportion to the noisy one alone.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from forebay.runtime.settings import load
from tests.bench import guarded, wrk
from tests.bench.forebay_server import ForebayServer
from tests.bench.stats import Figures, Spread, over
from tests.bench.texts import make_texts
from tests.bench.waiting import Waiting

ROOT = Path(__file__).parents[2]
MODEL = "minilm"

QUIET_A_S = 20.0
SECONDS = 20
LEAD_S = 2
MARKER = '"embedding"'


class Noise(msgspec.Struct, frozen=True):
    """A way of asking for much.

    Attributes:
        name: begins the names of its figures.
        title: for people.
        connections: with one request each.
        texts: of each request.
    """

    name: str
    title: str
    connections: int
    texts: int


NOISES = (
    Noise("fair-lists", "16 lists of 64 texts at a time", 16, 64),
    Noise("fair-texts", "64 texts at a time", 64, 1),
)


def _written(noise: Noise, texts: list[str], folder: Path) -> Path:
    """Bodies of requests, one a line."""
    path = folder / f"{noise.name}.jsonl"
    with path.open("wb") as file:
        for at in range(0, len(texts) - noise.texts + 1, noise.texts):
            body = {"model": MODEL, "input": texts[at : at + noise.texts]}
            file.write(msgspec.json.encode({**body, "encoding_format": "base64"}) + b"\n")
    return path


async def measure(artifacts: Path, rounds: int = 1) -> Figures:
    """Measure so often, and print each figure as it is there.

    Args:
        artifacts: folder of built models.

    Returns:
        For each noise `…-p50` and `…-p99`, the quiet caller's in proportion to those alone, and
        `…-rows`, the rows of both as per cent of those of the noisy one alone.

    Raises:
        StartError: Forebay does not come up.
        LoadFailedError: wrk could not run.
        SystemExit: a request failed.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-fair-") as name:
        folder = Path(name)
        server = ForebayServer(
            ROOT, home=folder / "home", artifacts=artifacts, log=folder / "log", env=guarded.ON
        )
        try:
            await asyncio.to_thread(server.wait_until_ready)
            return over([await _round(server, folder, number) for number in range(rounds)])
        finally:
            server.stop()


async def _round(server: ForebayServer, folder: Path, number: int) -> Figures:
    texts = make_texts(100_000, seed=f"fair {number}")
    single = iter(texts[90_000:])
    server.ask_for_keys()
    noisy = server.headers
    server.ask_for_keys()
    quiet = server.headers
    url = f"http://127.0.0.1:{server.port}"

    async def wait(seconds: float) -> Waiting:
        waiting = Waiting(
            url, MODEL, _some(single, int(seconds * QUIET_A_S) + 2), a_s=QUIET_A_S, headers=quiet
        )
        await waiting.for_s(seconds)
        if waiting.failed:
            raise SystemExit(f"{waiting.failed} requests of the quiet caller failed.")
        return waiting

    async def make(noise: Noise, bodies: Path) -> float:
        """Texts a second."""
        measured = await asyncio.to_thread(
            wrk.measure,
            f"{url}/v1/embeddings",
            bodies=bodies,
            marker=MARKER,
            headers=noisy,
            connections=noise.connections,
            seconds=SECONDS,
            lead_s=LEAD_S,
        )
        if measured.failed:
            raise SystemExit(f"{measured.failed} requests of the noisy caller failed.")
        return noise.texts * measured.rate

    await wait(LEAD_S)
    alone = await wait(SECONDS)
    print(f"alone: p50 {alone.ms(0.5):.1f}, p99 {alone.ms(0.99):.1f} ms", flush=True)
    found: dict[str, float] = {}
    for noise in NOISES:
        bodies = _written(noise, texts[:90_000], folder)
        most = await make(noise, bodies)
        making = asyncio.create_task(make(noise, bodies))
        await asyncio.sleep(LEAD_S)
        beside = await wait(SECONDS - 1)
        together = await making + QUIET_A_S
        print(
            f"beside {noise.title}: p50 {beside.ms(0.5):.1f}, p99 {beside.ms(0.99):.1f} ms; "
            f"all together {together:.0f} rows/s, the noisy one alone {most:.0f}",
            flush=True,
        )
        found |= {
            f"{noise.name}-p50": beside.ms(0.5) / alone.ms(0.5),
            f"{noise.name}-p99": beside.ms(0.99) / alone.ms(0.99),
            f"{noise.name}-rows": 100 * together / most,
        }
    return {name: Spread(value, value, value) for name, value in found.items()}


def _some(texts: Iterator[str], most: int) -> list[str]:
    return [next(texts) for _ in range(most)]


def main() -> None:
    """Entry point."""
    artifacts = Path(load().settings.home) / "artifacts"
    asyncio.run(measure(artifacts, int(sys.argv[1]) if len(sys.argv) > 1 else 1))


if __name__ == "__main__":
    main()
