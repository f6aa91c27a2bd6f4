"""Where the time of a lone request goes, step by step, in one run.

    python -m tests.bench.lone              # 2,000 requests each
    python -m tests.bench.lone 500          # or so many

One client, one text after the other: through Forebay to MiniLM and to the model that does nothing,
and the artifact with nothing around it, as it is called back to back and after a pause, on as many
threads as there are cores and on one. Medians, ms. MiniLM comes from the artifact store of the
settings' home.
"""

import http.client
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore
from tests.bench.bare import BareProcess, Order
from tests.bench.forebay_server import ForebayServer
from tests.bench.machine import cores
from tests.bench.texts import make_texts

ROOT = Path(__file__).parents[2]
MODEL = "minilm"
REQUESTS = 2_000
HEADERS = {"content-type": "application/json", "prefer": "wait"}
LEAD = 200
BARE_S = 4.0
_STEP = re.compile(r"(\w+);dur=([\d.]+)")


def ask(port: int, path: str, bodies: Iterable[bytes]) -> dict[str, float]:
    """Median time of a request, and of its steps by `Server-Timing`, ms; after a lead-in."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took: dict[str, list[float]] = defaultdict(list)
    for number, body in enumerate(bodies):
        begun = time.perf_counter()
        connection.request("POST", path, body, HEADERS)
        answer = connection.getresponse()
        answer.read()
        ended = time.perf_counter()
        if answer.status not in (http.client.OK, http.client.CREATED):
            raise SystemExit(f"{path} answered {answer.status}.")
        if number >= LEAD:
            took["all"].append((ended - begun) * 1e3)
            for step, ms in _STEP.findall(answer.getheader("server-timing") or ""):
                took[step].append(float(ms))
    return {step: statistics.median(ms) for step, ms in took.items()}


def main() -> None:
    """Entry point."""
    requests = LEAD + (int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
    home = Path(load().settings.home)
    artifact = ArtifactStore(home).current(MODEL)
    texts = make_texts(requests, seed="lone")
    with tempfile.TemporaryDirectory(prefix="forebay-lone-") as name:
        folder = Path(name)
        written = folder / "texts.txt"
        written.write_text("\n".join(texts), "utf-8")
        server = ForebayServer(
            ROOT, home=folder / "home", artifacts=home / "artifacts", log=folder / "log"
        )
        bare = {
            threads: BareProcess(
                artifact / "model.onnx", artifact / "tokenizer.json",
                threads=threads, root=ROOT, log=folder / "bare.log",
            )
            for threads in sorted({cores(), 1}, reverse=True)
        }  # fmt: skip
        try:
            server.wait_until_ready()
            for threads, process in bare.items():
                for loop, title in (("row", "back to back"), ("paced", "after a pause")):
                    measured = process.run(Order(loop, str(written), BARE_S, 1.0)).measured
                    assert measured is not None
                    assert measured.p50_ms is not None
                    print(f"bare model, {title}, threads {threads}: {measured.p50_ms:.2f}")
            nothing = [b'{"version":"echo","input":{"value":1}}'] * requests
            _tell("no model", ask(server.port, "/v1/predictions", nothing))
            made = [msgspec.json.encode({"model": MODEL, "input": text}) for text in texts]
            _tell("MiniLM", ask(server.port, "/v1/embeddings", made))
        finally:
            server.stop()
            for process in bare.values():
                process.stop()


def _tell(title: str, medians: dict[str, float]) -> None:
    steps = ", ".join(f"{step} {ms:.2f}" for step, ms in medians.items())
    print(f"{title}: {steps}", flush=True)


if __name__ == "__main__":
    main()
