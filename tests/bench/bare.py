"""The bare loops: the same artifact with nothing around it, in a process of its own.

Started as `python -m tests.bench.bare MODEL TOKENIZER THREADS`; it answers one line of JSON on
stdout to each on stdin. It stays up between measurements, as the other contenders do.
"""

import base64
import os
import select
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

ANSWER_GRACE_S = 60.0
"""For loading the model, and what else comes on top of the time that an order asks for."""

STOP_S = 5.0

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
            StartError: the process has ended, or hangs.
        """
        stdin, stdout = self._popen.stdin, self._popen.stdout
        assert stdin is not None
        assert stdout is not None
        line = b""
        with suppress(BrokenPipeError):
            stdin.write(msgspec.json.encode(order) + b"\n")
            stdin.flush()
            limit_s = order.lead_s + order.seconds + ANSWER_GRACE_S
            # An answer is written at once, so there is a whole line as soon as there is any of it.
            if not select.select([stdout], [], [], limit_s)[0]:
                raise StartError(f"The bare loop gives no answer: see {self._log}.")
            line = stdout.readline()
        if not line:
            raise StartError(f"The bare loop has ended: see {self._log}.")
        return msgspec.json.decode(line, type=Answer)

    def stop(self) -> None:
        """End the process."""
        self._popen.terminate()
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


class Loop(msgspec.Struct, frozen=True):
    """A way to go over the texts.

    Attributes:
        load: the one load it stands beside.
        extra: left out of a quick run.
    """

    name: str
    title: str
    load: Load
    extra: bool = False


LOOPS = (
    Loop("row", "bare loop, row by row", MINILM_1),
    Loop("paced", f"the same, after a pause of {PAUSE_S * 1e3:g} ms each", MINILM_1, extra=True),
    Loop("padded", f"bare loop, {BATCH_ROWS} as they come", MINILM_64, extra=True),
    Loop("sorted", f"bare loop, {READ_ROWS} sorted, in {BUCKET_ROWS}s", MINILM_64),
    Loop("cores", "the same, on each core a loop of one thread", MINILM_64, extra=True),
)


class BareLoop:
    """A contender that has no path at all."""

    def __init__(self, loop: Loop, process: BareProcess) -> None:
        self.name = f"bare-{loop.name}"
        self.title = loop.title
        self.extra = loop.extra
        self._loop = loop
        self._process = process

    def takes(self, load: Load) -> bool:
        """Whether this is the load it stands beside."""
        return load == self._loop.load

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Loop over the texts for so long."""
        path = texts.written("txt", str.encode)
        answer = self._process.run(Order(self._loop.name, str(path), seconds, LEAD_S))
        assert answer.measured is not None
        return answer.measured

    def settle(self, load: Load) -> int:
        """A loop that has answered has nothing left to do."""
        return 0


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
