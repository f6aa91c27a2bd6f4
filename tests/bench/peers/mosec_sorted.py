# /// script
# requires-python = ">=3.11"
# dependencies = ["mosec", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "mosec at its best"
# apps = ["minilm"]
# path = "/inference"
# redis = false
# extra = true
# commands = [
#   "python mosec_sorted.py --address 127.0.0.1 --port {port} --log-level warning",
# ]
# ///
"""mosec at the best settings found: a process a core with one thread each, and its user sorts.

mosec sorts for nobody; here its user sorts each batch by length and runs it in eights. It shows
how much of the difference is batching and how much is the path.
"""

import os
from typing import Any

from mosec_server import Embed, serve


class SortedEmbed(Embed):
    """Sorts a batch by length and runs it in small, evenly long parts."""

    threads = 1

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        vectors = self.embedder.embed_sorted([request["input"] for request in data])
        return [{"embedding": vector.tolist()} for vector in vectors]


if __name__ == "__main__":
    cores = int(os.environ["BENCH_THREADS"])
    serve(SortedEmbed, rows=int(os.environ["BENCH_MAX_ROWS"]), processes=cores)
