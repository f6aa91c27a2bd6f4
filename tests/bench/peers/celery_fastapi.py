# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "celery[redis]", "fastapi", "uvicorn[standard]", "numpy", "onnxruntime", "tokenizers",
# ]
#
# [tool.bench]
# title = "FastAPI + Celery"
# apps = ["null", "minilm"]
# path = "/infer"
# redis = true
# commands = [
#   "celery --app celery_fastapi worker --loglevel warning --without-gossip --without-mingle",
#   "uvicorn celery_fastapi:api --host 127.0.0.1 --port {port} --log-level warning --no-access-log",
# ]
# ///
"""FastAPI that sends a Celery task and waits for its result: what teams build first.

Written as the two documentations show: a plain `def` endpoint, which FastAPI runs in its thread
pool, `send_task(...).get()`, a prefork worker, Redis as broker and result backend. For the null
app the worker has a process a core, Celery's default. For the model it has one, whose session has
as many threads as the other peers'. Celery has no batching. `celery_best` has other settings.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from embedder import Embedder
from fastapi import FastAPI
from pydantic import BaseModel

TIMEOUT_S = 30

celery = Celery(
    "bench", broker=os.environ["BENCH_REDIS_URL"], backend=os.environ["BENCH_REDIS_URL"]
)
if os.environ["BENCH_APP"] != "null":
    celery.conf.worker_concurrency = 1
api = FastAPI()
embedders: list[Embedder] = []


class Request(BaseModel):
    """What both apps take."""

    input: Any


@worker_process_init.connect
def load(**_: object) -> None:
    if os.environ["BENCH_APP"] != "null":
        embedders.append(Embedder.from_environment())


@celery.task(name="bench.null")
def null(value: Any) -> Any:
    return value


@celery.task(name="bench.minilm")
def minilm(text: str) -> list[float]:
    return embedders[0].embed([text])[0].tolist()


@api.post("/infer")
def infer(request: Request) -> dict[str, Any]:
    app = os.environ["BENCH_APP"]
    result = celery.send_task(f"bench.{app}", args=[request.input]).get(timeout=TIMEOUT_S)
    return {"output" if app == "null" else "embedding": result}
