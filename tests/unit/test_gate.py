"""The gate: batches side by side, or one alone."""

import asyncio
import threading

from forebay.inference.gate import Gate
from tests.fixtures.waiting import PATIENCE_S, eventually


async def test_one_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    gate = Gate()
    order: list[str] = []
    await gate.enter()

    async def alone(name: str) -> None:
        async with gate.alone():
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    async def beside() -> None:
        await gate.enter()
        order.append("beside")
        gate.leave()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(alone("first"))
        second = group.create_task(alone("second"))
        await eventually(lambda: gate._shut)
        other = group.create_task(beside())
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == []
        assert not (first.done())
        assert not (second.done())
        assert not (other.done())
        gate.leave()
    assert order.index("first out") == order.index("first in") + 1
    assert order.index("second out") == order.index("second in") + 1
    assert "beside" in order


async def test_a_load_keeps_one_alone_waiting_but_no_batch() -> None:
    gate = Gate()
    order: list[str] = []

    async def alone() -> None:
        async with gate.alone():
            order.append("alone")

    async with asyncio.TaskGroup() as group, gate.loading():
        group.create_task(alone())
        for _ in range(5):
            await asyncio.sleep(0)
        await gate.enter()
        order.append("batch")
        gate.leave()
    assert order == ["batch", "alone"]


async def test_no_load_begins_beside_one_alone() -> None:
    gate = Gate()
    order: list[str] = []

    async def load() -> None:
        async with gate.loading():
            order.append("load")

    async with asyncio.TaskGroup() as group, gate.alone():
        group.create_task(load())
        for _ in range(5):
            await asyncio.sleep(0)
        order.append("alone")
    assert order == ["alone", "load"]


async def test_a_stretch_of_a_thread_waits_for_one_alone_and_is_waited_for() -> None:
    gate, home = Gate(), asyncio.get_running_loop()
    order: list[str] = []
    inside, free = threading.Event(), threading.Event()

    def stretch(name: str) -> None:
        with gate.stretch(home, alone=False):
            order.append(name)
            inside.set()
            assert free.wait(PATIENCE_S)

    async def alone() -> None:
        async with gate.alone():
            order.append("alone")
            second = asyncio.create_task(asyncio.to_thread(stretch, "second"))
            await eventually(lambda: gate._threads._waiters)  # type: ignore[attr-defined]
            order.append("still alone")
        await second

    first = asyncio.create_task(asyncio.to_thread(stretch, "first"))
    await asyncio.to_thread(inside.wait, PATIENCE_S)
    waiting = asyncio.create_task(alone())
    await eventually(lambda: gate._barred)
    assert order == ["first"]
    free.set()
    await first
    await waiting
    assert order == ["first", "alone", "still alone", "second"]


async def test_a_stretch_that_is_to_be_alone_waits_for_batches_and_keeps_others_out() -> None:
    gate, home = Gate(), asyncio.get_running_loop()
    order: list[str] = []
    inside, free = threading.Event(), threading.Event()

    def stretch() -> None:
        with gate.stretch(home, alone=True):
            order.append("stretch")
            inside.set()
            assert free.wait(PATIENCE_S)

    async def batch() -> None:
        await gate.enter()
        order.append("batch")
        gate.leave()

    await gate.enter()
    running = asyncio.create_task(asyncio.to_thread(stretch))
    await eventually(lambda: gate._shut)
    assert order == []
    gate.leave()
    await asyncio.to_thread(inside.wait, PATIENCE_S)
    after = asyncio.create_task(batch())
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["stretch"]
    free.set()
    await asyncio.gather(running, after)
    assert order == ["stretch", "batch"]
