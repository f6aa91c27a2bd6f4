# /// script
# requires-python = ">=3.11"
# dependencies = ["mosec", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "mosec"
# apps = ["null", "minilm"]
# path = "/inference"
# redis = false
# commands = [
#   "python mosec_server.py --address 127.0.0.1 --port {port} --log-level warning",
# ]
# ///
"""mosec: a Rust front with dynamic batching, Python workers, nothing durable.

Written as mosec's documentation shows: a worker class, `append_worker`, a batch size and a wait.
The wait is the least that mosec takes: a longer one would only add to its latency.
"""

import os
from typing import Any

from embedder import Embedder
from mosec import Server, Worker

WAIT_MS = 1

NULL_ROWS = 64
"""As many as the largest load sends at once: mosec waits for a batch it can't fill."""


class Null(Worker):
    """Gives back what it was given."""

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"output": request["input"]} for request in data]


class Embed(Worker):
    """Runs a batch as it comes, padded to its longest text."""

    threads: int | None = None
    """Threads of one forward pass; None takes the benchmark's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = Embedder.from_environment(threads=self.threads)

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        vectors = self.embedder.embed([request["input"] for request in data])
        return [{"embedding": vector.tolist()} for vector in vectors]


def serve(worker: type[Worker], *, rows: int, processes: int = 1) -> None:
    server = Server()
    server.append_worker(worker, num=processes, max_batch_size=rows, max_wait_time=WAIT_MS)
    server.run()


if __name__ == "__main__":
    if os.environ["BENCH_APP"] == "null":
        serve(Null, rows=NULL_ROWS)
    else:
        serve(Embed, rows=int(os.environ["BENCH_MAX_ROWS"]))
