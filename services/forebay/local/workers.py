"""The workers of `forebay up`: as many for each model as it needs, within its bounds.

A process target has them started and ended by the supervisor. Models whose bounds differ have an
autoscaler, which tells that target how many there should be.
"""

import asyncio
import contextlib
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from forebay.autoscaler.targets.process import ProcessTarget, Retire
from forebay.contract import rows
from forebay.contract.model import BackendName, ModelSpec
from forebay.local.children import FOREBAY, Stage, Task
from forebay.local.processes import Supervisor
from forebay.runtime.settings import Settings

FORKED: Final = frozenset({BackendName.ECHO, BackendName.ONNX})
"""Backends whose workers may be forked: what they import takes no notice of its environment, and
starts no threads (ONNX Runtime does, and is imported later). Others are started as they are."""

IMPORTED: Final[tuple[str, ...]] = (
    "forebay.cli.main",
    "forebay.inference.worker",
    "forebay.runtime.telemetry",
)
IMPORTED_ONNX: Final[tuple[str, ...]] = ("numpy", "tokenizers", "forebay.inference.tasks.load")
IMPORTED_TEXTS: Final[tuple[str, ...]] = ("forebay.inference.generation.model",)


class Workers:
    """Has workers started, and ended again.

    Args:
        supervisor: keeps them running.
        models: specs by what they are served under.
        settings: `redis_url` must be set.
        env: the workers' environment.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        models: Mapping[str, ModelSpec],
        settings: Settings,
        env: Mapping[str, str],
    ) -> None:
        self._models = models
        self._settings = settings
        self._target = ProcessTarget(
            _Crew(supervisor, models, env),
            vital=lambda model: models[model].replicas.min,
            retire=self._retire,
        )
        self._ask_to_finish: Retire | None = None
        self._scaling: asyncio.Task[None] | None = None

    def start(self, names: Iterable[str]) -> None:
        """Start as many workers of each as there always are."""
        for name in names:
            self._target.scale(name, self._models[name].replicas.min, ())

    def scale(self, names: Iterable[str]) -> None:
        """Give each from now on as many as it needs."""
        elastic = {name: self._models[name] for name in names}
        elastic = {name: spec for name, spec in elastic.items() if not spec.replicas.is_fixed}
        if elastic:
            self._scaling = asyncio.create_task(self._scale(elastic), name="autoscaler")

    async def aclose(self) -> None:
        """Start and end no more of them; those that are there are the supervisor's to end."""
        if self._scaling is not None:
            self._scaling.cancel()
            await asyncio.wait([self._scaling])

    async def _scale(self, models: Mapping[str, ModelSpec]) -> None:
        # Not at the top: they bring the Redis client, and the first processes start meanwhile.
        from forebay.autoscaler.loop import Autoscaler
        from forebay.autoscaler.targets.retire import retire
        from forebay.lanes.keys import Keys
        from forebay.lanes.producer import kept_going
        from forebay.runtime.redis import connect, connect_blocking

        url, timeout_s = self._settings.redis_url, self._settings.redis_timeout_s
        keys = Keys(self._settings.key_prefix)
        async with contextlib.AsyncExitStack() as stack:
            redis = connect(url, timeout_s=timeout_s)
            stack.push_async_callback(redis.aclose)
            blocking = connect_blocking(url, timeout_s=timeout_s)
            stack.push_async_callback(blocking.aclose)
            self._ask_to_finish = functools.partial(retire, redis, keys)
            stack.push_async_callback(self._target.aclose)
            scaler = Autoscaler(redis, blocking, keys, models, self._target)
            await stack.enter_async_context(kept_going("autoscaler", scaler.run))
            await asyncio.Event().wait()

    async def _retire(self, worker: str, model: str) -> None:
        if self._ask_to_finish is not None:
            await self._ask_to_finish(worker, model)


class _Crew:
    """The supervisor as a crew of workers.

    Args:
        supervisor: keeps them running.
        models: specs by what they are served under.
        env: their environment.
    """

    def __init__(
        self, supervisor: Supervisor, models: Mapping[str, ModelSpec], env: Mapping[str, str]
    ) -> None:
        self._supervisor = supervisor
        self._models = models
        self._env = env

    def start(self, name: str, model: str, *, vital: bool) -> None:
        """As in `Crew`."""
        self._supervisor.start(worker_task(name, [self._models[model]], self._env, vital=vital))

    def has(self, name: str) -> bool:
        """As in `Crew`."""
        return self._supervisor.has(name)

    def pid(self, name: str) -> int | None:
        """As in `Crew`."""
        return self._supervisor.pid(name)

    async def stop(self, name: str) -> None:
        """As in `Crew`."""
        await self._supervisor.stop(name)


def worker_task(
    name: str, models: Sequence[ModelSpec], env: Mapping[str, str], *, vital: bool = True
) -> Task:
    """A worker for these models as the supervisor runs it."""
    command = (*FOREBAY, "worker", *(spec.name for spec in models))
    forked = all(spec.backend in FORKED for spec in models)
    return Task(name, command, Stage.WORKERS, env, vital=vital, forked=forked)


def imported(models: Iterable[ModelSpec]) -> list[str]:
    """What workers of these models import that may be imported once for all of them."""
    forked = [spec for spec in models if spec.backend in FORKED]
    onnx = [spec for spec in forked if spec.backend is BackendName.ONNX]
    texts = any(spec.task is rows.Task.GENERATION for spec in onnx)
    return [
        *(IMPORTED if forked else ()),
        *(IMPORTED_ONNX if onnx else ()),
        *(IMPORTED_TEXTS if texts else ()),
    ]
