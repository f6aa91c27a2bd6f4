"""`forebay up`: everything on this machine, from nothing to ready, and back."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Final

import msgspec

from forebay.contract.errors import ArtifactError, ForebayError
from forebay.contract.model import ModelSpec
from forebay.egress.rules import is_loopback
from forebay.local.checks import check_exposure, check_port, check_redis, hold_port
from forebay.local.children import FOREBAY, Stage, Task, environment
from forebay.local.forks import Forks
from forebay.local.home import (
    counting_folder,
    forget_url,
    hold_home,
    tell_url,
    until_left,
    whole_path,
)
from forebay.local.processes import Supervisor
from forebay.local.server import EmbeddedServer
from forebay.local.stopping import StopError, Stopping
from forebay.local.welcome import Address, Ready
from forebay.local.workers import Workers, imported, worker_task
from forebay.runtime import catalog as catalogs
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Auth, Configuration

log = logging.getLogger(__name__)

MAX_PORT: Final = 65_535


class Up:
    """One run of `forebay up`.

    Args:
        configuration: settings, and which of them were given.
        show: receives the processes' log lines.
        announce: told once, when everything is ready.
        one_worker: have one worker for all models, instead of one for each.

    Raises:
        ConfigurationError: the home folder can't be.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        show: Callable[[str], None],
        announce: Callable[[Ready], None],
        one_worker: bool = False,
    ) -> None:
        self._one_worker = one_worker
        self._settings = configuration.settings
        self._given = {o.field: o.value for o in configuration.origins if o.source != "default"}
        self._home = whole_path(self._settings.home)
        self._show = show
        self._announce = announce
        self._began = time.monotonic()
        self._grpc_port = 0
        self._workers: Workers | None = None

    async def run(self) -> int:
        """Start everything and keep it running until SIGINT, SIGTERM or SIGHUP; then drain.

        Returns:
            Exit code: 0, or that of a build that failed, and has said why.

        Raises:
            ForebayError: something is in the way of starting, or a process could not be kept
                running. Whatever had been started has been stopped.
        """
        stopping = Stopping()
        with contextlib.suppress(StopError):
            await stopping.unless(until_left(self._home, say=log.info))
            with hold_home(self._home) as lock:
                return await self._run(lock, stopping)
        return 0

    async def _run(self, lock: int, stopping: Stopping) -> int:
        """Run in a home folder that is ours."""
        check_exposure(self._settings)
        catalog = catalogs.read(Path(self._settings.models_file))
        check_port(self._settings.host, self._settings.port)
        self._grpc_port = self._choose_grpc_port()
        with self._held_ports(), self._counting():
            return await self._run_on_ports(catalog, lock, stopping)

    async def _run_on_ports(self, catalog: Catalog, lock: int, stopping: Stopping) -> int:
        server = await self._choose_server(stopping)
        for spec in missing_artifacts(self._home, catalog.wanted):
            if code := await stopping.unless(self._build(spec)):
                return code
        modules = imported(catalog.wanted)
        supervisor = Supervisor(
            drain_s=self._settings.drain_s,
            show=self._show,
            lock=lock,
            forks=Forks(modules, lock=lock) if modules and Forks.possible() else None,
        )
        await supervisor.open()
        try:
            await stopping.unless(self._serve(supervisor, catalog, server))
        finally:
            log.info("draining")
            if self._workers is not None:
                await self._workers.aclose()
            await supervisor.drain(hurry=stopping.hurry)
            forget_url(self._home)
        return 0

    @contextlib.contextmanager
    def _held_ports(self) -> Generator[None]:
        """Keep ports that several gateways share from everybody else."""
        settings = self._settings
        ports = {"port": settings.port, "grpc_port": self._grpc_port}
        with contextlib.ExitStack() as stack:
            for setting, port in ports.items():
                if port and settings.gateways > 1:
                    stack.enter_context(hold_port(settings.host, port, setting=setting))
            yield

    @contextlib.contextmanager
    def _counting(self) -> Generator[None]:
        """Have a folder where several gateways count together, unless one was given."""
        with contextlib.ExitStack() as stack:
            if self._settings.gateways > 1 and not self._settings.counts_dir:
                folder = stack.enter_context(counting_folder(self._home))
                self._given["counts_dir"] = str(folder)
            yield

    def _choose_grpc_port(self) -> int:
        """The port for gRPC: what was given, else the one after HTTP's if it can be had; 0: none.

        Raises:
            BusyError: somebody listens on the one that was given.
            ConfigurationError: the address is not ours to use.
        """
        settings = self._settings
        if "grpc_port" in self._given:
            if settings.grpc_port:
                check_port(settings.host, settings.grpc_port, setting="grpc_port")
            return settings.grpc_port
        port = settings.port + 1
        if port > MAX_PORT or importlib.util.find_spec("grpc") is None:
            return 0
        try:
            check_port(settings.host, port, setting="grpc_port")
        except ForebayError as error:
            log.info("gRPC is not served. %s", error.message)
            return 0
        return port

    async def _choose_server(self, stopping: Stopping) -> EmbeddedServer | None:
        """The server to start; None if a Redis was given, which has been seen to answer."""
        settings = self._settings
        if not settings.redis_url:
            return EmbeddedServer(self._home, durability=settings.durability)
        await stopping.unless(check_redis(settings.redis_url, timeout_s=settings.redis_timeout_s))
        return None

    async def _build(self, spec: ModelSpec) -> int:
        """Build a model in a process of its own, which shows its progress on our terminal."""
        process = await asyncio.create_subprocess_exec(
            *_verb("models", "build", spec.name), env=self._env(self._settings.redis_url)
        )
        try:
            return await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            log.info(
                "the build of %s was stopped, and nothing was started: "
                "the next `forebay up` goes on from here",
                spec.name,
            )
            raise

    async def _serve(
        self, supervisor: Supervisor, catalog: Catalog, server: EmbeddedServer | None
    ) -> None:
        """Start, announce, and run until a process is given up."""
        failure = asyncio.ensure_future(supervisor.given_up())
        start = asyncio.ensure_future(self._start(supervisor, catalog, server))
        try:
            await asyncio.wait({failure, start}, return_when=asyncio.FIRST_COMPLETED)
            if not failure.done():
                self._announce(await start)
            raise await failure
        finally:
            for future in (failure, start):
                future.cancel()
            await asyncio.gather(failure, start, return_exceptions=True)

    async def _start(
        self, supervisor: Supervisor, catalog: Catalog, server: EmbeddedServer | None
    ) -> Ready:
        settings = self._settings
        url = near = settings.redis_url
        if server is not None:
            command = tuple(server.prepare())
            url, near = server.url, server.socket_url
            supervisor.start(
                Task(
                    "server",
                    command,
                    Stage.SERVER,
                    server.env(os.environ),
                    server.log,
                )
            )
            await server.until_answers()
            tell_url(self._home, url)
        # On the path of requests a socket is a tenth quicker; everybody else takes what Celery apps
        # and people can take as well.
        env, path_env = self._env(url), self._env(near)
        served = [spec.name for spec in catalog.wanted]
        there = msgspec.structs.replace(settings, redis_url=url)
        self._workers = Workers(supervisor, catalog.served, there, path_env)
        if not self._one_worker:
            self._workers.start(served)
        gateways = [f"gateway#{n}" if n > 1 else "gateway" for n in range(1, settings.gateways + 1)]
        for name, stage, verb, its_env in (
            *((name, Stage.GATEWAY, _verb("gateway"), path_env) for name in gateways),
            ("background", Stage.BACKGROUND, _verb("background"), env),
            ("beat", Stage.BACKGROUND, _verb("background", "--beat"), env),
        ):
            supervisor.start(Task(name, verb, stage, its_env))
        # Imported while the processes start: it brings the Redis client.
        from forebay.local.readiness import live_versions, until_ready

        live = await live_versions(catalog, redis_url=url, key_prefix=settings.key_prefix)
        late = sorted(live.difference(served))
        served += late
        if self._one_worker:
            specs = [catalog.served[name] for name in served]
            supervisor.start(worker_task("worker", specs, path_env))
            awaited = served
        else:
            self._workers.start(late)
            self._workers.scale(served)
            awaited = [name for name in served if catalog.served[name].replicas.min]
        address = Address(settings.host, settings.port)
        unserved = await until_ready(
            address,
            awaited,
            gateways=lambda: {supervisor.pid(name) for name in gateways},
            redis_url=url,
            key_prefix=settings.key_prefix,
            say=log.info,
        )
        supervisor.settled()
        return Ready(
            address,
            tuple(catalog.models.values()),
            time.monotonic() - self._began,
            grpc=Address(settings.host, self._grpc_port) if self._grpc_port else None,
            resting=()
            if self._one_worker
            else tuple(spec.name for spec in catalog.models.values() if spec.replicas.from_zero),
            unserved=tuple(unserved.values()),
            asks_for_keys=settings.auth is Auth.KEYS,
        )

    def _env(self, redis_url: str) -> dict[str, str]:
        """Environment of the processes: ours, and every setting that was given here."""
        settings = {
            # Receivers and files of this machine are for those who are on it.
            "egress_loopback": is_loopback(self._settings.host),
            **self._given,
            "home": str(self._home),
            "models_file": str(Path(self._settings.models_file).resolve()),
            "redis_url": redis_url,
            "grpc_port": self._grpc_port,
            "reuse_port": self._settings.gateways > 1,
        }
        return environment(settings)


def missing_artifacts(home: Path, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    """Models that have to be built first: not built yet, or built from another specification."""
    # Not at the top: most starts build nothing, and `up` should be quick to say what is wrong.
    from forebay.storage.artifacts import ArtifactStore, read_manifest

    store = ArtifactStore(home)
    missing: list[ModelSpec] = []
    for spec in specs:
        if not spec.is_built:
            continue
        try:
            manifest = read_manifest(store.current(spec.name), model=spec.name)
        except ArtifactError:
            missing.append(spec)
            continue
        built = (manifest.source, manifest.precision, manifest.backend)
        if built != (spec.source, spec.precision, spec.backend):
            missing.append(spec)
    return missing


def _verb(*words: str) -> tuple[str, ...]:
    return (*FOREBAY, *words)
