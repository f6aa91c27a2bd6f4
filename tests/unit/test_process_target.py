"""Replicas as processes: which are started, which end, and which never do while they are busy."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence

import pytest

from forebay.autoscaler.targets.process import ProcessTarget
from forebay.lanes.presence import Present
from forebay.local.children import Stage, Task
from forebay.local.processes import Supervisor
from forebay.runtime.process import process_name
from tests.fixtures.waiting import eventually

WORKER = (
    "import signal, sys\n"
    "from forebay.runtime.process import process_name\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print(process_name(), flush=True)\n"
    "signal.pause()\n"
)
BROKEN = "raise SystemExit('no model here')"


class Crew:
    """Small processes, kept running by a real supervisor, that tell their names as workers do."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(drain_s=5, show=self.lines.append)
        self.code = WORKER
        self.vital: dict[str, bool] = {}

    def start(self, name: str, model: str, *, vital: bool) -> None:
        self.vital[name] = vital
        command = (sys.executable, "-c", self.code)
        self.supervisor.start(Task(name, command, Stage.WORKERS, dict(os.environ), vital=vital))

    def has(self, name: str) -> bool:
        return self.supervisor.has(name)

    def pid(self, name: str) -> int | None:
        return self.supervisor.pid(name)

    async def stop(self, name: str) -> None:
        await self.supervisor.stop(name)

    async def present(self, *names: str, busy: Sequence[str] = ()) -> list[Present]:
        """These as they would be seen in Redis, once they have told their names."""

        def told() -> dict[str, str]:
            return dict(line.split(": ", 1) for line in self.lines)

        await eventually(lambda: set(names) <= told().keys())
        return [Present(told()[name], 1.0, name in busy) for name in names]


class Scene:
    """A target over a crew, with a record of who was asked to finish."""

    def __init__(self, *, least: int = 0) -> None:
        self.crew = Crew()
        self.asked: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.target = ProcessTarget(self.crew, vital=lambda _: least, retire=self.retire)

    async def retire(self, worker: str, model: str) -> None:
        assert model == "m"
        self.asked.append(worker)
        await self.may_end.wait()

    @property
    def running(self) -> set[str]:
        return {name for name in self.crew.vital if self.crew.has(name)}


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr("forebay.local.processes.FIRST_PAUSE_S", 0.01)
    made = Scene(least=1)
    await made.crew.supervisor.open()
    yield made
    await made.target.aclose()
    await made.crew.supervisor.drain()


A, B, C = "worker:m", "worker:m#2", "worker:m#3"


async def test_as_many_are_started_as_are_wanted_and_the_least_are_vital(scene: Scene) -> None:
    scene.target.scale("m", 3, ())
    assert scene.target.started("m", []) == 3
    assert scene.running == {A, B, C}
    assert scene.crew.vital == {A: True, B: False, C: False}
    scene.target.scale("m", 3, ())
    assert scene.running == {A, B, C}
    assert scene.target.started("another", []) == 0


async def test_those_who_are_busy_stay_and_the_last_to_come_go_first(scene: Scene) -> None:
    scene.target.scale("m", 3, ())
    present = await scene.crew.present(A, B, C, busy=[C])
    assert scene.target.busy("m", present) == 1
    scene.target.scale("m", 2, present)
    assert scene.target.started("m", []) == 2
    await eventually(lambda: scene.running == {A, C})
    present = await scene.crew.present(A, C, busy=[A, C])
    scene.target.scale("m", 0, present)
    assert scene.target.started("m", []) == 2
    present = await scene.crew.present(A, C, busy=[C])
    scene.target.scale("m", 0, present)
    await eventually(lambda: scene.running == {C})
    assert len(scene.asked) == 2


async def test_who_has_not_come_up_goes_before_who_works(scene: Scene) -> None:
    scene.target.scale("m", 2, ())
    scene.target.scale("m", 1, await scene.crew.present(A))
    await eventually(lambda: scene.running == {A})
    assert scene.asked == [], "there was nobody to be asked"


async def test_who_leaves_is_asked_first_and_others_come_meanwhile(scene: Scene) -> None:
    scene.may_end.clear()
    scene.target.scale("m", 1, ())
    present = await scene.crew.present(A)
    scene.target.scale("m", 0, present)
    assert scene.target.started("m", []) == 0
    await eventually(lambda: scene.asked == [present[0].worker])
    # It is there until it has finished, and counts no more.
    assert scene.running == {A}
    assert scene.target.busy("m", [Present(present[0].worker, 1.0, True)]) == 0
    scene.target.scale("m", 1, present)
    assert scene.running == {A, B}
    scene.may_end.set()
    await eventually(lambda: scene.running == {B})
    scene.target.scale("m", 2, await scene.crew.present(B))
    assert scene.running == {A, B}


async def test_workers_of_others_are_none_of_its_business(scene: Scene) -> None:
    scene.target.scale("m", 1, ())
    (own,) = await scene.crew.present(A)
    others = [Present(process_name(), 1.0, True), Present("elsewhere-1-2-0123456789ab", 1.0, True)]
    assert scene.target.busy("m", [own, *others]) == 0
    scene.target.scale("m", 0, [own, *others])
    await eventually(lambda: not scene.running)


async def test_one_that_can_not_start_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("forebay.local.processes.FIRST_PAUSE_S", 0.01)
    scene = Scene()
    await scene.crew.supervisor.open()
    try:
        scene.crew.code = BROKEN
        scene.target.scale("m", 1, ())
        await eventually(lambda: not scene.running)
        scene.target.scale("m", 1, ())
        assert scene.target.started("m", []) == 0
        assert "worker:m ended with exit code 1 3 times in a row" in caplog.text
        assert "no model here" in caplog.text
        assert "m is not started again for 5 s" in caplog.text
        # Nothing else is the worse for it.
        scene.target.scale("other", 1, ())
        assert scene.target.started("other", []) == 1

        monkeypatch.setattr("forebay.autoscaler.targets.process.FIRST_PAUSE_S", 0.0)
        scene.target._failures["m"].until = 0.0
        scene.crew.code = WORKER
        scene.target.scale("m", 1, ())
        assert scene.target.started("m", []) == 1
        assert await scene.crew.present(A)
    finally:
        await scene.crew.supervisor.drain()
