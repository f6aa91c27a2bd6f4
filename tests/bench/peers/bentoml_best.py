# /// script
# requires-python = ">=3.11"
# dependencies = ["bentoml", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "BentoML at its best"
# apps = ["minilm"]
# path = "/infer"
# dialect = "list"
# redis = false
# extra = true
# environment = "serving"
# commands = ["bentoml serve --quiet --host 127.0.0.1 --port {port} bentoml_best:SortedEmbed"]
# ///
"""BentoML with a worker a core, one thread each, and its user's code for sorting.

Each batch is sorted by length and run in eights.
"""

import os

import bentoml
import numpy as np
from bentoml_server import QUIET, TIMEOUT_S
from embedder import Embedder

WORKERS = int(os.environ["BENCH_THREADS"])


@bentoml.service(workers=WORKERS, traffic={"timeout": TIMEOUT_S}, logging=QUIET)
class SortedEmbed:
    """Sorts a batch by length and runs it in small, evenly long parts."""

    def __init__(self) -> None:
        self.embedder = Embedder.from_environment(threads=1)

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["BENCH_MAX_ROWS"]))
    def infer(self, input: list[str]) -> np.ndarray:
        return self.embedder.embed_sorted(input)
