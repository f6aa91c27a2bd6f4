"""The same models as ordinary Celery tasks: what an app has before it has Forebay.

`celery -A tests.bench.celery_tasks worker` forks a child a core, each with the model in it.
"""

import os
from typing import Any

from celery import Celery

from tests.bench.peers.embedder import Embedder

app = Celery("ordinary", broker=os.environ.get("APP_BROKER"), backend=os.environ.get("APP_BACKEND"))
app.conf.broker_connection_retry_on_startup = True

_held: dict[str, Embedder] = {}


@app.task(name="ordinary.echo")
def echo(input: dict[str, Any]) -> Any:
    """Give back what came."""
    return input["value"]


@app.task(name="ordinary.minilm")
def minilm(input: dict[str, Any]) -> list[float]:
    """Embed a text."""
    if "minilm" not in _held:
        _held["minilm"] = Embedder.from_environment(threads=1)
    vector: list[float] = _held["minilm"].embed([input["text"]])[0].tolist()
    return vector
