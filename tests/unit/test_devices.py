"""The threads that run batches: order, bulk's share, errors, the end."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from forebay.inference.devices import BULK_NICE, BULK_SHARE, INTERRUPTS, NICE, Devices
from tests.fixtures.waiting import PATIENCE_S


class Plug:
    """A job that runs until it is pulled."""

    def __init__(self) -> None:
        self.runs = threading.Event()
        self.pulled = threading.Event()

    def __call__(self) -> str:
        self.runs.set()
        assert self.pulled.wait(PATIENCE_S)
        return "plug"


@contextlib.asynccontextmanager
async def devices_of(threads: int = 1) -> AsyncIterator["Devices[str]"]:
    devices: Devices[str] = Devices(threads, name="test")
    try:
        yield devices
    finally:
        await asyncio.to_thread(devices.close)


def job(name: str, ran: list[str]) -> Callable[[], str]:
    def run() -> str:
        ran.append(name)
        return name

    return run


async def test_urgent_jobs_go_before_those_that_came_earlier_each_kind_in_its_order() -> None:
    ran: list[str] = []
    plug = Plug()
    async with devices_of() as devices:
        plugged = devices.submit(plug, urgent=False)
        await asyncio.to_thread(plug.runs.wait, PATIENCE_S)
        later = [devices.submit(job(f"bulk {n}", ran), urgent=False) for n in range(3)]
        urgent = [devices.submit(job(f"urgent {n}", ran), urgent=True) for n in range(3)]
        plug.pulled.set()
        assert await plugged == "plug"
        assert await asyncio.gather(*later, *urgent) == [
            *(f"bulk {n}" for n in range(3)), *(f"urgent {n}" for n in range(3))
        ]  # fmt: skip
    assert ran == [*(f"urgent {n}" for n in range(3)), *(f"bulk {n}" for n in range(3))]


async def test_bulk_gets_its_share_of_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("forebay.inference.devices.time.monotonic", lambda: now)
    ran: list[str] = []
    plug = Plug()

    def taking(name: str) -> Callable[[], str]:
        def run() -> str:
            nonlocal now
            now += 1.0
            ran.append(name)
            return name

        return run

    async with devices_of() as devices:
        plugged = devices.submit(plug, urgent=False)
        await asyncio.to_thread(plug.runs.wait, PATIENCE_S)
        flood = [devices.submit(taking("urgent"), urgent=True) for _ in range(200)]
        bulk = [devices.submit(taking("bulk"), urgent=False) for _ in range(100)]
        plug.pulled.set()
        await asyncio.gather(plugged, *flood, *bulk)
    of_flood = ran[: len(ran) - ran[::-1].index("urgent")]
    assert of_flood.count("bulk") / of_flood.count("urgent") == pytest.approx(BULK_SHARE, rel=0.2)


async def test_an_error_is_for_who_waits_and_the_thread_goes_on() -> None:
    def broken() -> str:
        raise RuntimeError("it is broken")

    async with devices_of() as devices:
        failed = devices.submit(broken, urgent=True)
        fine = devices.submit(lambda: "fine", urgent=True)
        with pytest.raises(RuntimeError, match="it is broken"):
            await failed
        assert await fine == "fine"


async def test_nobody_need_wait() -> None:
    plug = Plug()
    async with devices_of() as devices:
        left = devices.submit(plug, urgent=True)
        await asyncio.to_thread(plug.runs.wait, PATIENCE_S)
        left.cancel()
        plug.pulled.set()
        assert await devices.submit(lambda: "next", urgent=True) == "next"


async def test_several_threads_run_side_by_side_and_what_waits_is_run_before_the_end() -> None:
    plugs = [Plug(), Plug()]
    ran: list[str] = []
    devices: Devices[str] = Devices(2, name="test")
    held = [devices.submit(plug, urgent=True) for plug in plugs]
    for plug in plugs:
        assert await asyncio.to_thread(plug.runs.wait, PATIENCE_S)
    last = devices.submit(job("last", ran), urgent=False)
    closing = asyncio.create_task(asyncio.to_thread(devices.close))
    for plug in plugs:
        plug.pulled.set()
    await closing
    assert await asyncio.gather(*held, last) == ["plug", "plug", "last"]
    assert not [one for one in threading.enumerate() if one.name.startswith("test_")]


@pytest.mark.skipif(not INTERRUPTS, reason="threads stand back together")
async def test_threads_of_bulk_stand_back_behind_those_of_realtime() -> None:
    def niceness() -> str:
        return str(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    there = os.getpriority(os.PRIO_PROCESS, 0)
    devices: Devices[str] = Devices(1, name="test")
    bulk: Devices[str] = Devices(1, name="test", nice=BULK_NICE)
    told = await asyncio.gather(
        devices.submit(niceness, urgent=True), bulk.submit(niceness, urgent=False)
    )
    await asyncio.to_thread(devices.close)
    await asyncio.to_thread(bulk.close)
    assert list(told) == [str(NICE), str(BULK_NICE)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == there
