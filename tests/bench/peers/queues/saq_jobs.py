# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis,hiredis]", "uvloop"]
#
# [tool.jobs]
# title = "SAQ"
# environment = "redis5"
# worker = "saq --quiet saq_jobs.settings"
# ///
"""SAQ with 100 jobs at once. Its `Queue.jobs` reads many results at once."""

from typing import Any

import uvloop
from driver import AT_ONCE, RESULT_S, URL, each, serve_async
from saq import Job, Queue

queue = Queue.from_url(URL, max_concurrent_ops=AT_ONCE)


async def echo(_: dict[str, Any], *, value: int) -> int:
    return value


settings = {"queue": queue, "functions": [echo], "concurrency": 100}


async def enqueue(count: int) -> list[Job]:
    return await each(lambda number: queue.enqueue("echo", value=number), range(count))


async def result(job: Job) -> int:
    await job.refresh(until_complete=RESULT_S)
    return job.result


async def results(jobs: list[Job]) -> list[int]:
    return [job.result for job in await queue.jobs([job.key for job in jobs])]


async def main() -> None:
    await queue.connect()
    await serve_async(enqueue, result, results)


if __name__ == "__main__":
    uvloop.run(main())
