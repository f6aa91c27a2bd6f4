# /// script
# requires-python = ">=3.11"
# dependencies = ["litserve", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "LitServe"
# apps = ["null", "minilm"]
# path = "/predict"
# redis = false
# environment = "serving"
# commands = ["python litserve_server.py {port}"]
# ///
"""LitServe: FastAPI in front, worker processes behind, batches made in between.

Written as LitServe's documentation shows: a `LitAPI` with `setup`, `decode_request`, `predict` and
`encode_response`, a largest batch and a wait. The wait is none, its default: a batch is what has
come meanwhile.
"""

import os
import sys
from typing import Any

import litserve
from embedder import Embedder

NULL_ROWS = 64
"""As many as the largest load sends at once."""


class Null(litserve.LitAPI):
    """Gives back what it was given."""

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["input"]

    def predict(self, x: list[Any]) -> list[Any]:
        return x

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"output": output}


class Embed(litserve.LitAPI):
    """Runs a batch as it comes, padded to its longest text."""

    threads: int | None = None
    """Threads of one forward pass; None takes the benchmark's."""

    def setup(self, device: str) -> None:
        self.embedder = Embedder.from_environment(threads=self.threads)

    def decode_request(self, request: dict[str, Any]) -> str:
        return request["input"]

    def predict(self, x: list[str]) -> list[Any]:
        return list(self.embedder.embed(x))

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"embedding": output.tolist()}


def serve(
    *, embed: type[Embed] = Embed, processes: int = 1, fronts: int = 1, **options: Any
) -> None:
    if os.environ["BENCH_APP"] == "null":
        api: litserve.LitAPI = Null(max_batch_size=NULL_ROWS)
    else:
        api = embed(max_batch_size=int(os.environ["BENCH_MAX_ROWS"]))
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=processes, disable_openapi_url=True, **options
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning",
        generate_client_file=False, access_log=False, num_api_servers=fronts,
    )  # fmt: skip


if __name__ == "__main__":
    serve()
