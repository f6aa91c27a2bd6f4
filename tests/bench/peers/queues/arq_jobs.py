# /// script
# requires-python = ">=3.11"
# dependencies = ["arq", "uvloop"]
#
# [tool.jobs]
# title = "arq"
# environment = "redis5"
# worker = "arq arq_jobs.WorkerSettings"
# ///
"""arq with 100 jobs at once, and a shorter pause between looks at its queue than it comes with."""

from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from driver import POLL_S, RESULT_S, URL, each, serve_async

SETTINGS = RedisSettings.from_dsn(URL)


async def echo(_: dict[str, Any], value: int) -> int:
    return value


class WorkerSettings:
    """What `arq` reads."""

    functions = (echo,)
    redis_settings = SETTINGS
    max_jobs = 100
    poll_delay = POLL_S
    log_results = False


async def main() -> None:
    redis = await create_pool(SETTINGS)

    async def enqueue(count: int) -> list[Job]:
        return await each(lambda number: redis.enqueue_job("echo", number), range(count))

    async def result(job: Job) -> int:
        return await job.result(timeout=RESULT_S, poll_delay=POLL_S)

    await serve_async(enqueue, result)


if __name__ == "__main__":
    uvloop.run(main())
