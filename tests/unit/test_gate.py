"""The gate: batches side by side, or one alone."""

import asyncio

from forebay.inference.gate import Gate
from tests.fixtures.waiting import eventually


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
