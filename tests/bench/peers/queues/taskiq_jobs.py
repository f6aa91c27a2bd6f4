# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq", "taskiq-redis", "uvloop"]
#
# [tool.jobs]
# title = "taskiq, taskiq-redis"
# environment = "queues"
# worker = """taskiq worker --workers 1 --max-async-tasks 100 --max-prefetch 100 \
#   --log-level WARNING taskiq_jobs:broker"""
# ///
"""taskiq with the broker that its Redis package shows first: streams, with acknowledgements."""

import uvloop
from driver import POLL_S, RESULT_S, URL, each, serve_async
from taskiq import AsyncTaskiqTask
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(url=URL).with_result_backend(RedisAsyncResultBackend(redis_url=URL))


@broker.task
async def echo(value: int) -> int:
    return value


async def enqueue(count: int) -> list[AsyncTaskiqTask]:
    return await each(echo.kiq, range(count))


async def result(task: AsyncTaskiqTask) -> int:
    return (await task.wait_result(check_interval=POLL_S, timeout=RESULT_S)).return_value


async def main() -> None:
    await broker.startup()
    await serve_async(enqueue, result)
    await broker.shutdown()


if __name__ == "__main__":
    uvloop.run(main())
