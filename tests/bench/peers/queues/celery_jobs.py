# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]"]
#
# [tool.jobs]
# title = "Celery"
# environment = "queues"
# worker = """celery --app celery_jobs worker --pool threads --concurrency 8 --loglevel WARNING \
#   --without-gossip --without-mingle --without-heartbeat"""
# ///
"""Celery with one process of 8 threads, and none of what a lone worker has no use for.

Its documentation advises a larger prefetch for short tasks. Results come by Redis's pub/sub, and
`ResultSet` collects them.
"""

from celery import Celery
from celery.result import AsyncResult, ResultSet
from driver import RESULT_S, URL, serve

app = Celery("jobs", broker=URL, backend=URL)
app.conf.worker_prefetch_multiplier = 64
app.conf.broker_connection_retry_on_startup = True


@app.task(name="echo")
def echo(value: int) -> int:
    return value


def enqueue(count: int) -> list[AsyncResult]:
    with app.producer_pool.acquire(block=True) as producer:
        return [echo.apply_async((number,), producer=producer) for number in range(count)]


def result(sent: AsyncResult) -> int:
    return sent.get(timeout=RESULT_S)


def results(sent: list[AsyncResult]) -> list[int]:
    return ResultSet(sent).get(timeout=RESULT_S)


if __name__ == "__main__":
    serve(enqueue, result, results)
