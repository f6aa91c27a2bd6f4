# /// script
# requires-python = ">=3.11"
# dependencies = ["ray[serve]", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "Ray Serve"
# apps = ["null", "minilm"]
# path = "/"
# redis = false
# environment = "serving"
# commands = ["python ray_server.py {port}"]
# ///
"""Ray Serve: an HTTP proxy, one replica, and `@serve.batch` in it.

Written as Ray's documentation on dynamic request batching shows: an async method takes a list, and
each request awaits its own share. `max_ongoing_requests` is above the batch, as that page says it
has to be: its default of 5 would bound the batch. The wait is none, so that no lone request is
held up. A cluster of its own for each app, without a dashboard.
"""

import os
import sys
from typing import Any

import ray
from embedder import Embedder
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

ONGOING = 256
NULL_ROWS = 64
"""As many as the largest load sends at once."""

STORE_BYTES = 100_000_000
MAX_ROWS = int(os.environ["BENCH_MAX_ROWS"])


@serve.deployment(max_ongoing_requests=ONGOING)
class Null:
    """Gives back what it was given."""

    @serve.batch(max_batch_size=NULL_ROWS, batch_wait_timeout_s=0)
    async def infer(self, inputs: list[Any]) -> list[dict[str, Any]]:
        return [{"output": given} for given in inputs]

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await self.infer((await request.json())["input"])


@serve.deployment(max_ongoing_requests=ONGOING)
class Embed:
    """Runs a batch as it comes, padded to its longest text."""

    def __init__(self, *, threads: int | None = None, is_sorted: bool = False) -> None:
        embedder = Embedder.from_environment(threads=threads)
        self.embed = embedder.embed_sorted if is_sorted else embedder.embed

    @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=0)
    async def infer(self, texts: list[str]) -> list[dict[str, Any]]:
        return [{"embedding": vector.tolist()} for vector in self.embed(texts)]

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await self.infer((await request.json())["input"])


def run(app: serve.Application) -> None:
    ray.init(include_dashboard=False, object_store_memory=STORE_BYTES, configure_logging=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])))
    serve.run(app, blocking=True)


if __name__ == "__main__":
    run(Null.bind() if os.environ["BENCH_APP"] == "null" else Embed.bind())
