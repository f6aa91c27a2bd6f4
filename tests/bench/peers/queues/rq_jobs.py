# /// script
# requires-python = ">=3.11"
# dependencies = ["rq"]
#
# [tool.jobs]
# title = "RQ, SimpleWorker"
# environment = "queues"
# worker = "rq worker --quiet --url {url} --worker-class rq.SimpleWorker --path ."
# ///
"""RQ with `SimpleWorker`, which its documentation advises for many short jobs: it does not fork.

`enqueue_many` writes all jobs in one pipeline; a result is waited for on its stream.
"""

import functools

from driver import RESULT_S, URL, serve
from redis import Redis
from rq import Queue
from rq.job import Job
from rq_echo import echo

# A result may take longer than the client waits for any answer of the server.
queue = Queue(connection=Redis.from_url(URL, socket_timeout=None))


def enqueue(count: int) -> list[Job]:
    prepare = functools.partial(Queue.prepare_data, echo)
    return queue.enqueue_many([prepare((number,)) for number in range(count)])


def result(job: Job) -> int:
    return job.latest_result(timeout=RESULT_S).return_value


if __name__ == "__main__":
    serve(enqueue, result)
