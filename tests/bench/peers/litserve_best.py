# /// script
# requires-python = ">=3.11"
# dependencies = ["litserve", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "LitServe at its best"
# apps = ["null", "minilm"]
# path = "/predict"
# redis = false
# extra = true
# environment = "serving"
# commands = ["python litserve_best.py {port}"]
# ///
"""LitServe at the best settings found: `fast_queue`, two API servers, a process a core, sorting.

`fast_queue` has ZeroMQ carry requests to the workers. Each worker runs one thread; the user's code
sorts each batch by length and runs it in eights.
"""

import os
from typing import Any

from litserve_server import Embed, serve


class SortedEmbed(Embed):
    """Sorts a batch by length and runs it in small, evenly long parts."""

    threads = 1

    def predict(self, x: list[str]) -> list[Any]:
        return list(self.embedder.embed_sorted(x))


if __name__ == "__main__":
    is_null = os.environ["BENCH_APP"] == "null"
    serve(
        embed=SortedEmbed,
        processes=1 if is_null else int(os.environ["BENCH_THREADS"]),
        fronts=2,
        fast_queue=True,
    )
