"""A scene: a server, and the programs that work on it."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.runtime.settings import Settings
from tests.chaos import odd
from tests.chaos.audit import Audit
from tests.chaos.clients import Http, until_ready
from tests.chaos.outcome import Outcome
from tests.chaos.programs import Program
from tests.fixtures.servers import Server
from tests.fixtures.shapes import Servers, running
from tests.fixtures.waiting import PATIENCE_S, eventually

STOP_S = 15.0
MODEL = "echo"

Table = Mapping[str, float | int]


class Catalog(msgspec.Struct, frozen=True):
    """A model that doesn't echo values.

    Attributes:
        model: its name.
        toml: the catalog it is in.
        home: a home folder that has its artifact; None if it needs none.
    """

    model: str
    toml: str
    home: Path | None = None


class Gateway:
    """A gateway and the way to it."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.http = Http(port)

    async def ready(self) -> None:
        """Wait until it answers."""
        await until_ready(self.http)


class Scene:
    """What a scenario plays in.

    Attributes:
        audit: watches.
        batches: log of what the odd workers have begun.
        settings: of all programs.
        programs: all that were started.
        gateways: those among them.
        sweepers: the background's processes among them.

    Args:
        folder: for files.
        url: of the server, which is running.
        settings: of the programs, by their names.
        model: what the scene is about.
    """

    def __init__(
        self, folder: Path, url: str, settings: Mapping[str, object], *, model: str = MODEL
    ) -> None:
        self.folder = folder
        self.model = model
        self.batches = folder / "batches"
        self.settings = Settings(
            redis_url=url,
            models_file=str(folder / "models.toml"),
            home=str(folder / "home"),
            **settings,  # type: ignore[arg-type]
        )
        self._env = {
            "FOREBAY_REDIS_URL": url,
            "FOREBAY_MODELS_FILE": str(folder / "models.toml"),
            "FOREBAY_HOME": str(folder / "home"),
            **_variables(settings),
        }
        self.programs: list[Program] = []
        self.gateways: list[Gateway] = []
        self.sweepers: list[Program] = []
        self.audit = self.audit_of(model)

    def audit_of(self, model: str) -> Audit:
        """What watches a model; the caller closes it."""
        return Audit(self.settings.redis_url, Keys(self.settings.key_prefix), model)

    def _program(self, name: str, *arguments: str, **settings: object) -> Program:
        number = sum(program.name.startswith(name) for program in self.programs)
        name = f"{name}-{number}"
        env = {**self._env, **_variables(settings)}
        program = Program(name, arguments, env=env, log=self.folder / f"{name}.log")
        self.programs.append(program)
        program.start()
        return program

    async def worker(self, *others: str) -> Program:
        """A worker as `forebay worker` runs it, present; with these models beside the usual one."""
        program = self._program("worker", "-m", "forebay.cli", "worker", self.model, *others)
        await self.present(program)
        return program

    async def odd_worker(
        self, name: str = "odd", *, run_s: float = 0.0, **settings: object
    ) -> Program:
        """A worker with the odd backend, present.

        Args:
            name: told as the version of its results.
            run_s: how long its batches take.
            settings: of its own.
        """
        arguments = ("-m", odd.__name__, name, str(run_s), str(self.batches))
        program = self._program(name, *arguments, **settings)
        await self.present(program)
        return program

    async def present(self, program: Program) -> None:
        """Wait until a worker is present."""

        async def is_present() -> bool:
            return any(f"-{program.pid}-" in name for name in await self.audit.present())

        await eventually(is_present, what=lambda: f"presence of {program.said}")

    async def gateway(self) -> Gateway:
        """A gateway, ready."""
        port = free_port()
        program = self._program("gateway", "-m", "forebay.cli", "gateway", "--port", str(port))
        made = Gateway(program, port)
        self.gateways.append(made)
        await made.ready()
        return made

    def begun(self) -> list[odd.Batch]:
        """The batches that odd workers have begun, in order."""
        return odd.read_batches(self.batches)

    def background(self) -> tuple[Program, Program]:
        """The background's worker and its clock; `at_work` waits for them."""
        background = self._program("background", "-m", "forebay.cli", "background")
        beat = self._program("beat", "-m", "forebay.cli", "background", "--beat")
        self.sweepers += (background, beat)
        return background, beat

    async def at_work(self, sweeper: Program) -> None:
        """Wait until a process of the background, as it was started last, says that it works."""

        def has_said_so() -> bool:
            said = sweeper.log.read_text("utf-8", "replace")
            return said.count(" working on ") + said.count(" scheduling ") >= sweeper.starts

        await eventually(has_said_so, what=lambda: f"at work: {sweeper.said}")

    async def drained(self, outcome: Outcome, ids: list[str], within_s: float = PATIENCE_S) -> None:
        """Wait until these predictions have ended and nothing else is in demand."""
        left = await self.audit.ended(ids, within_s=within_s)
        outcome.promise(not left, f"{len(left)} predictions have not ended after {within_s:g} s")
        if not left:
            with contextlib.suppress(AssertionError):
                await eventually(self._at_rest, within_s=within_s)

    async def _at_rest(self) -> bool:
        return await self.audit.demand() == 0

    async def exits(self, program: Program, outcome: Outcome) -> None:
        """SIGTERM a program; it has its grace to end with 0."""
        program.terminate()
        grace_s = self.settings.drain_s + 5
        code = await asyncio.to_thread(program.wait, grace_s)
        outcome.promise(
            code == 0,
            f"{program.name} ended with {code} within {grace_s:g} s of SIGTERM: "
            f"{program.said[-500:]}",
        )

    async def close(self) -> None:
        """End everything."""
        await self.audit.aclose()
        for gateway in self.gateways:
            gateway.http.close()
        until = time.monotonic() + STOP_S
        for program in self.programs:
            if program.running:
                program.resume()
                program.terminate()
        for program in self.programs:
            await asyncio.to_thread(program.end, until=until)


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"FOREBAY_{name.upper()}": str(value) for name, value in settings.items()}


@contextlib.asynccontextmanager
async def scene(
    *,
    servers: Servers | None = None,
    batch: Table | None = None,
    realtime: Table | None = None,
    bulk: Table | None = None,
    others: Sequence[str] = (),
    catalog: Catalog | None = None,
    **settings: object,
) -> AsyncIterator[Scene]:
    """Set a scene.

    Args:
        servers: what it plays on, running; by default a server of its own, which nobody kills.
        batch: limits of the model's batches, as in `models.toml`.
        realtime: limits of its realtime lane.
        bulk: limits of its bulk lane.
        others: models beside it, which echo, too.
        catalog: another model instead of all those.
        settings: of all programs.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-chaos-")))
        lines = [f"[models.{MODEL}]", 'task = "echo"', 'backend = "echo"']
        for table, entries in (("batch", batch), ("realtime", realtime), ("bulk", bulk)):
            lines.append(f"[models.{MODEL}.{table}]")
            lines += [f"{key} = {value}" for key, value in (entries or {}).items()]
        for other in others:
            lines += [f"[models.{other}]", 'task = "echo"', 'backend = "echo"']
        if catalog is not None:
            lines = [catalog.toml]
            if catalog.home is not None:
                (folder / "home").mkdir()
                (folder / "home" / "artifacts").symlink_to(catalog.home / "artifacts")
        (folder / "models.toml").write_text("\n".join(lines) + "\n", "utf-8")
        if servers is None:
            servers = stack.enter_context(running(Server))
        model = MODEL if catalog is None else catalog.model
        made = Scene(folder, servers.url, settings, model=model)
        try:
            yield made
        finally:
            await made.close()


@contextlib.asynccontextmanager
async def beside(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run coroutines beside the block; they are cancelled when it ends, and may not fail."""
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
