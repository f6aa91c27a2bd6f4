# /// script
# requires-python = ">=3.11"
# dependencies = ["streaq", "uvloop"]
#
# [tool.jobs]
# title = "streaq"
# environment = "queues"
# worker = "streaq run streaq_jobs:worker"
# ///
"""streaq, with the concurrency of its own benchmark, 32, and uvloop.

Jobs are enqueued all in one call, as its documentation advises for many. Each
`result()` subscribes to a channel of its own and hangs up, which is most of what reading costs.
"""

import uvloop
from driver import RESULT_S, URL, serve_async
from streaq import Worker
from streaq.task import Task

worker = Worker(redis_url=URL, concurrency=32, anyio_kwargs={"use_uvloop": True})


@worker.task
async def echo(value: int) -> int:
    return value


async def enqueue(count: int) -> list[Task]:
    tasks = [echo.enqueue(number) for number in range(count)]
    await worker.enqueue_many(tasks)
    return tasks


async def result(task: Task) -> int:
    return (await task.result(timeout=RESULT_S)).result


async def main() -> None:
    async with worker:
        await serve_async(enqueue, result)


if __name__ == "__main__":
    uvloop.run(main())
