"""The bare loops: the same artifact with nothing around it, in a process of its own.

Started as `python -m tests.bench.bare MODEL TOKENIZER THREADS`; it answers one line of JSON on
stdout to each on stdin. It stays up between measurements, as the other contenders do.
"""

import base64
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from tests.bench.loads import LEAD_S, MINILM_1, MINILM_64, Load, Texts
from tests.bench.peers.embedder import Embedder
from tests.bench.processes import StartError
from tests.bench.stats import Measurement, percentile

READ_ROWS = 64
BUCKET_ROWS = 8
BATCH_ROWS = 32

PAUSE_S = 0.002
"""About what a lone client leaves between two requests: caches cool, and cores fall asleep."""


class Order(msgspec.Struct, frozen=True):
    """What to do: one of the loops for so long, or `embed` every text once."""

    loop: str
    texts: str
    seconds: float = 0.0
    lead_s: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """The measurement, or for `embed` the vectors: float32, little-endian, base64."""

    measured: Measurement | None = None
    vectors: tuple[str, ...] = ()


class BareProcess:
    """The process that runs the loops.

    Args:
        model: the graph.
        tokenizer: its `tokenizer.json`.
        threads: threads of one forward pass.
        root: the repository.
        log: takes what the process writes to stderr.
    """

    def __init__(
        self, model: Path, tokenizer: Path, *, threads: int, root: Path, log: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("ab") as stderr:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", __name__, str(model), str(tokenizer), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=root,
                start_new_session=True,
            )

    def run(self, order: Order) -> Answer:
        """Send an order and wait for its answer.

        Raises:
            StartError: the process has ended.
        """
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        line = b""
        with suppress(BrokenPipeError):
            self._popen.stdin.write(msgspec.json.encode(order) + b"\n")
            self._popen.stdin.flush()
            line = self._popen.stdout.readline()
        if not line:
            raise StartError(f"The bare loop has ended: see {self._log}.")
        return msgspec.json.decode(line, type=Answer)

    def stop(self) -> None:
        """End the process."""
        self._popen.terminate()
        self._popen.wait()


class BareLoop:
    """A contender that has no path at all.

    Args:
        loop: one of `row`, `paced`, `padded`, `sorted`, `cores`.
        load: the one load it stands beside.
    """

    def __init__(
        self, loop: str, title: str, load: Load, process: BareProcess, *, extra: bool = False
    ) -> None:
        self.name = f"bare-{loop}"
        self.title = title
        self.extra = extra
        self._loop = loop
        self._load = load
        self._process = process

    def takes(self, load: Load) -> bool:
        """Whether this is the load it stands beside."""
        return load == self._load

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Loop over the texts for so long."""
        path = texts.written("txt", str.encode)
        answer = self._process.run(Order(self._loop, str(path), seconds, LEAD_S))
        assert answer.measured is not None
        return answer.measured

    def settle(self, load: Load) -> int:
        """A loop that has answered has nothing left to do."""
        return 0


def loops(process: BareProcess) -> list[BareLoop]:
    """The bare contenders."""
    return [
        BareLoop("row", "bare loop, row by row", MINILM_1, process),
        BareLoop(
            "paced", f"the same, after a pause of {PAUSE_S * 1e3:g} ms each", MINILM_1, process,
            extra=True,
        ),
        BareLoop(
            "padded", f"bare loop, {BATCH_ROWS} as they come", MINILM_64, process,
            extra=True,
        ),
        BareLoop(
            "sorted", f"bare loop, {READ_ROWS} sorted, in {BUCKET_ROWS}s",
            MINILM_64, process,
        ),
        BareLoop(
            "cores", "the same, on each core a loop of one thread", MINILM_64, process,
            extra=True,
        ),
    ]  # fmt: skip


def measure_loop(embedder: Embedder, loop: str, texts: list[str], seconds: float) -> Measurement:
    """Go over the texts, again from the first when they are used up, until the time is over."""
    step = {"padded": BATCH_ROWS, "sorted": READ_ROWS}.get(loop, 1)
    rows, at = 0, 0
    took_ms: list[float] = []
    begun = now = time.perf_counter()
    while now - begun < seconds:
        chunk = [texts[(at + i) % len(texts)] for i in range(step)]
        if loop == "paced":
            time.sleep(PAUSE_S)
            now = time.perf_counter()
        if loop == "sorted":
            embedder.embed_sorted(chunk, bucket=BUCKET_ROWS)
        else:
            embedder.embed(chunk)
        before, now = now, time.perf_counter()
        took_ms.append((now - before) * 1e3)
        rows, at = rows + step, at + step
    took_ms.sort()
    if step > 1:
        return Measurement(rows, 0, now - begun, rows)
    p50, p90, p99 = (percentile(took_ms, share) for share in (0.5, 0.9, 0.99))
    return Measurement(rows, 0, now - begun, rows, p50, p90, p99)


def measure_cores(
    embedder: Embedder, texts: list[str], seconds: float, *, loops: int
) -> Measurement:
    """The sorted loop on as many threads of Python; their rows together."""
    starts = [index * len(texts) // loops for index in range(loops)]
    with ThreadPoolExecutor(loops) as pool:
        runs = [
            pool.submit(measure_loop, embedder, "sorted", texts[at:] + texts[:at], seconds)
            for at in starts
        ]
        done = [run.result() for run in runs]
    rows = sum(one.answered for one in done)
    return Measurement(rows, 0, max(one.seconds for one in done), rows)


def serve(model: Path, tokenizer: Path, threads: int) -> None:
    """Answer orders until stdin closes."""
    embedder = Embedder(model, tokenizer, threads=threads)
    single = Embedder(model, tokenizer, threads=1)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        texts = Path(order.texts).read_text("utf-8").splitlines()
        if order.loop == "embed":
            vectors = (embedder.embed([text])[0].astype("<f4").tobytes() for text in texts)
            answer = Answer(vectors=tuple(base64.b64encode(v).decode() for v in vectors))
        elif order.loop == "cores":
            measure_cores(single, texts, order.lead_s, loops=threads)
            answer = Answer(measure_cores(single, texts, order.seconds, loops=threads))
        else:
            measure_loop(embedder, order.loop, texts, order.lead_s)
            answer = Answer(measure_loop(embedder, order.loop, texts, order.seconds))
        os.write(1, msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
