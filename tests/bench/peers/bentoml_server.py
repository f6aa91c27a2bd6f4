# /// script
# requires-python = ">=3.11"
# dependencies = ["bentoml", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "BentoML"
# apps = ["null", "minilm"]
# path = "/infer"
# dialect = "list"
# redis = false
# environment = "serving"
# commands = ["bentoml serve --quiet --host 127.0.0.1 --port {port} bentoml_server:App"]
# ///
"""BentoML: a service with one batchable API, which batches adaptively.

Written as BentoML's documentation shows: `batchable=True` on a method that takes a list and gives
a list or an array, so a request holds a list too, here of one. It tunes its own wait, within a
latency that it may not pass. One worker, as it comes.
"""

import os
from typing import Any

import bentoml
import numpy as np
from embedder import Embedder

NULL_ROWS = 64
"""As many as the largest load sends at once."""

TIMEOUT_S = 30
QUIET = {"access": {"enabled": False}}


@bentoml.service(traffic={"timeout": TIMEOUT_S}, logging=QUIET)
class Null:
    """Gives back what it was given."""

    @bentoml.api(batchable=True, max_batch_size=NULL_ROWS)
    def infer(self, input: list[Any]) -> list[Any]:
        return input


@bentoml.service(traffic={"timeout": TIMEOUT_S}, logging=QUIET)
class Embed:
    """Runs a batch as it comes, padded to its longest text."""

    def __init__(self) -> None:
        self.embedder = Embedder.from_environment()

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["BENCH_MAX_ROWS"]))
    def infer(self, input: list[str]) -> np.ndarray:
        return self.embedder.embed(input)


App = Null if os.environ["BENCH_APP"] == "null" else Embed
