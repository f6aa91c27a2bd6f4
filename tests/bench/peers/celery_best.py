# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "celery[redis]", "fastapi", "uvicorn[standard]", "numpy", "onnxruntime", "tokenizers",
# ]
#
# [tool.bench]
# title = "FastAPI + Celery at its best"
# apps = ["null", "minilm"]
# path = "/infer"
# redis = true
# extra = true
# commands = [
#   "celery --app celery_best worker --loglevel warning --without-gossip --without-mingle",
#   """uvicorn celery_best:api --workers {threads} --host 127.0.0.1 --port {port} \
#      --log-level warning --no-access-log""",
# ]
# ///
"""FastAPI that sends a Celery task, with a process a core of both, one thread each for the model.

Pools of threads, one process, a larger prefetch and `-O fair` do less or no more.
"""

from celery.signals import worker_process_init
from celery_fastapi import api, celery, embedders, load
from embedder import Embedder

worker_process_init.disconnect(load)
celery.conf.update(worker_concurrency=None, task_default_queue="best")

__all__ = ("api", "celery")


@worker_process_init.connect
def load_one(**_: object) -> None:
    embedders.append(Embedder.from_environment(threads=1))
