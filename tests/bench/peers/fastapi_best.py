# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi", "uvicorn[standard]", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "FastAPI in process at its best"
# apps = ["null", "minilm"]
# path = "/infer"
# redis = false
# extra = true
# commands = [
#   "uvicorn fastapi_best:api --host 127.0.0.1 --port {port} --log-level warning --no-access-log",
# ]
# ///
"""FastAPI in process as it should be quickest: a pass for each core, of one thread.

No other settings have been tried.

The null model is an `async def`, which needs no thread. Answers are JSON responses as they are,
which no model checks a second time.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from embedder import Embedder
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

api = FastAPI()

if os.environ["BENCH_APP"] == "null":

    @api.post("/infer")
    async def null(request: Request) -> JSONResponse:
        return JSONResponse({"output": (await request.json())["input"]})

else:
    embedder = Embedder.from_environment(threads=1)
    pool = ThreadPoolExecutor(int(os.environ["BENCH_THREADS"]))

    def embed_one(text: str) -> list[float]:
        return embedder.embed([text])[0].tolist()

    @api.post("/infer")
    async def embed(request: Request) -> JSONResponse:
        text = (await request.json())["input"]
        loop = asyncio.get_running_loop()
        return JSONResponse({"embedding": await loop.run_in_executor(pool, embed_one, text)})
