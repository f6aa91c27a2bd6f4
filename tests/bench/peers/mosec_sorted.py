# /// script
# requires-python = ">=3.11"
# dependencies = ["mosec", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "mosec, sorting by hand"
# apps = ["minilm"]
# path = "/inference"
# redis = false
# extra = true
# commands = [
#   "python mosec_sorted.py --address 127.0.0.1 --port {port} --log-level warning",
# ]
# ///
"""mosec at its best: its user sorts each batch by length and runs it in eights.

mosec doesn't do this for anybody; it shows how much of the difference is batching and how much is
the path. The batch limit is twice the usual, as Forebay's worker holds two batches to sort.
"""

import os
from typing import Any

from mosec_server import Embed, serve


class SortedEmbed(Embed):
    """Sorts a batch by length and runs it in small, evenly long parts."""

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        vectors = self.embedder.embed_sorted([request["input"] for request in data])
        return [{"embedding": vector.tolist()} for vector in vectors]


if __name__ == "__main__":
    serve(SortedEmbed, rows=2 * int(os.environ["BENCH_MAX_ROWS"]))
