"""What a batch costs: its rate beside the bare model's, and what those who wait feel of it.

    python -m tests.bench.batches               # 50,000 lines
    python -m tests.bench.batches 5000          # or so many

MiniLM from the artifact store of the settings' home. In turn: somebody who waits alone (20 requests
a second, open loop), the bare model, a batch alone, the bare model again, a batch while somebody
waits, and the bare model once more. A batch's rate is held against the mean of the two bare ones
around it: a machine is not as fast at all times. Told are the rates and their ratios, the 99th
percentiles and theirs, and the memory of the background worker, every ten seconds.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import openai
import psutil
from openai.types import Batch

from forebay.contract.errors import ArtifactError
from forebay.runtime import catalog
from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore
from tests.bench.bare import BareProcess, Order
from tests.bench.forebay_server import ForebayServer, ForwardPasses, forward_passes
from tests.bench.processes import command_line, descendants
from tests.bench.stats import Figures, Spread
from tests.bench.texts import make_texts
from tests.bench.waiting import Waiting

ROOT = Path(__file__).parents[2]
MODEL = "minilm"

LINES = 50_000
BARE_S = 20.0
ALONE_S = 60.0
REALTIME_A_S = 20.0
LEAD_S = 5.0
LOOK_S = 0.5
RSS_EVERY_S = 10.0


class Ran(msgspec.Struct, frozen=True):
    """What a batch came to.

    Attributes:
        rows_s: lines a second, from its making to its end.
        rss_mb: memory of the background worker, every ten seconds.
    """

    rows_s: float
    rss_mb: list[float]


def bare_rate(process: BareProcess, texts: Path, passes: ForwardPasses) -> float:
    """Rows a second of the artifact with nothing around it, run as a worker runs it."""
    loop = "cores" if passes.at_once > 1 else "sorted"
    measured = process.run(Order(loop, str(texts), BARE_S, LEAD_S)).measured
    assert measured is not None
    return measured.rate


async def run_batch(server: ForebayServer, pid: int, texts: Sequence[str]) -> Ran:
    """Make a batch of these, and wait for its end."""
    lines = b"".join(
        msgspec.json.encode(
            {
                "custom_id": f"text-{number}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": MODEL, "input": text, "encoding_format": "base64"},
            }
        )
        + b"\n"
        for number, text in enumerate(texts)
    )
    url = f"http://127.0.0.1:{server.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        file = await client.files.create(file=("lines.jsonl", lines), purpose="batch")
        begun = time.perf_counter()
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        rss_mb: list[float] = []
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            await asyncio.sleep(LOOK_S)
            passed_s = time.perf_counter() - begun
            if passed_s >= len(rss_mb) * RSS_EVERY_S:
                rss_mb.append(_background(pid).memory_info().rss / 1e6)
            batch = await client.batches.retrieve(batch.id)
        seconds = time.perf_counter() - begun
    _check(batch, len(texts))
    return Ran(len(texts) / seconds, rss_mb)


def _check(batch: Batch, lines: int) -> None:
    counts = batch.request_counts
    if batch.status != "completed" or counts is None or counts.completed != lines:
        raise SystemExit(f"The batch is {batch.status}, with {counts}: {batch.errors}")


def _background(pid: int) -> psutil.Process:
    """The background worker under `forebay up`."""
    for child in descendants(pid):
        if command_line(child).endswith(" background"):
            return psutil.Process(child)
    raise SystemExit("There is no background worker.")


async def measure(lines: int) -> Figures:
    """Measure, and print each figure as it is there.

    Returns:
        `mixed-rows` and `mixed-alone`, a batch's rows with and without realtime's as per cent of
        the bare model's, and `mixed-p99`, realtime's p99 in proportion to that alone.

    Raises:
        SystemExit: the batch failed, or there is no artifact.
    """
    settings = load().settings
    spec = catalog.read(ROOT / "models.toml").find(MODEL)
    try:
        artifact = ArtifactStore(settings.home).current(MODEL)
    except ArtifactError as error:
        raise SystemExit(error.message) from None
    passes = forward_passes(spec, Path(settings.home))
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        folder = Path(name)
        texts = make_texts(2 * lines + 30_000, seed="batches")
        written = folder / "texts.txt"
        written.write_text("\n".join(texts[:5_000]), "utf-8")
        threads = passes.threads * passes.at_once
        bare = BareProcess(
            artifact / "model.onnx", artifact / "tokenizer.json",
            threads=threads, root=ROOT, log=folder / "bare.log",
        )  # fmt: skip
        server = ForebayServer(
            ROOT, home=folder / "home", artifacts=Path(settings.home) / "artifacts",
            log=folder / "forebay.log",
        )  # fmt: skip
        try:
            await asyncio.to_thread(server.wait_until_ready)
            return await _measure(server, bare, written, passes, texts, lines)
        finally:
            bare.stop()
            server.stop()


async def _measure(
    server: ForebayServer,
    bare: BareProcess,
    written: Path,
    passes: ForwardPasses,
    texts: Sequence[str],
    lines: int,
) -> Figures:
    url = f"http://127.0.0.1:{server.port}"
    first, second, others = texts[:lines], texts[lines : 2 * lines], texts[2 * lines :]
    half = len(others) // 2

    async def bare_now() -> float:
        rate = await asyncio.to_thread(bare_rate, bare, written, passes)
        print(f"bare model: {rate:.0f} rows/s", flush=True)
        return rate

    alone = Waiting(url, MODEL, others[:half], a_s=REALTIME_A_S)
    await alone.for_s(min(ALONE_S, half / REALTIME_A_S))
    print(f"realtime alone: p99 {alone.ms(0.99):.1f} ms, {alone.failed} failed", flush=True)

    before = await bare_now()
    quiet = await run_batch(server, server.pid, first)
    between = await bare_now()
    share = quiet.rows_s / statistics.mean((before, between))
    print(f"batch alone: {quiet.rows_s:.0f} rows/s, {share:.0%} of the bare model's", flush=True)

    beside = Waiting(url, MODEL, others[half:], a_s=REALTIME_A_S)
    over = asyncio.Event()
    waiting = asyncio.create_task(beside.run(over))
    shared = await run_batch(server, server.pid, second)
    over.set()
    await waiting
    after = await bare_now()
    rate = statistics.mean((between, after))
    together = shared.rows_s + len(beside.took_ms) * shared.rows_s / lines
    print(
        f"batch with realtime: {shared.rows_s:.0f} rows/s, {shared.rows_s / rate:.0%} of the bare "
        f"model's; all together {together:.0f}, {together / rate:.0%}"
    )
    print(
        f"realtime with the batch: p99 {beside.ms(0.99):.1f} ms, {beside.failed} failed; "
        f"{beside.ms(0.99) / alone.ms(0.99):.2f} of that alone"
    )
    for title, ran in (("alone", quiet), ("with realtime", shared)):
        told = ", ".join(f"{mb:.0f}" for mb in ran.rss_mb)
        print(f"background worker, batch {title}, each {RSS_EVERY_S:.0f} s: {told} MB")
    found = {
        "mixed-alone": 100 * share,
        "mixed-rows": 100 * together / rate,
        "mixed-p99": beside.ms(0.99) / alone.ms(0.99),
    }
    return {name: Spread(value, value, value) for name, value in found.items()}


def main() -> None:
    """Entry point."""
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else LINES))


if __name__ == "__main__":
    main()
