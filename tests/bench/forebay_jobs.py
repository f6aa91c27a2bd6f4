"""Forebay's client of `tests.bench.jobs`: its own way in and its own way out, without HTTP.

Started as a program, it answers as the other queues' clients do: see peers/queues/driver.py.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from forebay.contract.prediction import Lane, PredictionId
from forebay.contract.rows import Value, ValueRow
from forebay.lanes.lane import Submission
from forebay.lanes.parts import parts_of
from forebay.lanes.producer import Producer
from forebay.runtime import catalog, settings

MODEL = "echo"
DEADLINE_MS = 60_000
RETAIN_MS = 600_000
READY_S = 30.0
POLL_S = 0.05

AT_ONCE = 2_048
"""Jobs under way: the realtime lane takes 4,096."""


async def run(lanes: Producer, count: int) -> tuple[float, int]:
    """Enqueue so many jobs and wait for all results.

    Returns:
        When the one that was enqueued last had its result, by `time.perf_counter`, and how many
        results were not what was given.
    """
    room, wrong, ran = asyncio.Semaphore(AT_ONCE), 0, 0.0

    async def job(number: int) -> None:
        nonlocal wrong, ran
        given = b"%d" % number
        now_ms = lanes.clock.now_ms()
        parts = parts_of((ValueRow(given),), now_ms=now_ms, deadline_ms=DEADLINE_MS, truncate=False)
        id_ = PredictionId.new(MODEL)
        waiter = lanes.inbox.expect(id_, len(parts))
        submission = Submission(
            id_, Lane.REALTIME, parts, now_ms, DEADLINE_MS, RETAIN_MS, lanes.inbox.channel
        )
        lanes.writer.submit(submission, waiter.submitted)
        try:
            (reply,) = await waiter.future
        finally:
            lanes.inbox.forget(waiter)
            room.release()
        wrong += reply.outputs != (Value(given),)
        if number == count - 1:
            ran = time.perf_counter()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await room.acquire()
            group.create_task(job(number))
    return ran, wrong


async def main() -> None:
    """Answer orders until stdin ends."""
    known = settings.load().settings
    models = catalog.read(Path(known.models_file))
    lanes = Producer(known, {MODEL: models.find(MODEL)})
    async with lanes.running(), asyncio.timeout(None) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + READY_S)
        while not (lanes.link.up and lanes.inbox.listening):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(POLL_S)
        limit.reschedule(None)
        while line := await asyncio.to_thread(sys.stdin.readline):
            began = time.perf_counter()
            ran, wrong = await run(lanes, int(line))
            seconds = time.perf_counter() - began
            told = {"ran_s": ran - began, "seconds": seconds, "wrong": wrong}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
