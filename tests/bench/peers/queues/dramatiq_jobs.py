# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq[redis]"]
#
# [tool.jobs]
# title = "dramatiq"
# environment = "queues"
# worker = "dramatiq --processes 1 --threads 8 dramatiq_jobs"
# ///
"""dramatiq with one process of 8 threads, as many as it comes with, and results in Redis."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from driver import RESULT_S, URL, serve

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, actor_name="echo")
def echo(value: int) -> int:
    return value


def enqueue(count: int) -> list[dramatiq.Message]:
    return [echo.send(number) for number in range(count)]


def result(message: dramatiq.Message) -> int:
    return message.get_result(block=True, timeout=RESULT_S * 1000)


if __name__ == "__main__":
    serve(enqueue, result)
