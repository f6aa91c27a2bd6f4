# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi", "uvicorn[standard]", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "FastAPI in process"
# apps = ["null", "minilm"]
# path = "/infer"
# redis = false
# commands = [
#   "uvicorn fastapi_server:api --host 127.0.0.1 --port {port} --log-level warning --no-access-log",
# ]
# ///
"""FastAPI with the model in its own process: no queue, no batches.

Written as FastAPI's documentation shows: a plain `def` endpoint, which it runs in its thread pool
of 40, on a session that was opened before. As many passes run at once as there are requests.
"""

import os
from typing import Any

from embedder import Embedder
from fastapi import FastAPI
from pydantic import BaseModel

api = FastAPI()


class Request(BaseModel):
    """What both apps take."""

    input: Any


if os.environ["BENCH_APP"] == "null":

    @api.post("/infer")
    def null(request: Request) -> dict[str, Any]:
        return {"output": request.input}

else:
    embedder = Embedder.from_environment()

    @api.post("/infer")
    def embed(request: Request) -> dict[str, Any]:
        return {"embedding": embedder.embed([request.input])[0].tolist()}
