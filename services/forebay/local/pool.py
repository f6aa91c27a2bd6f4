"""`forebay workers run`: the workers of a machine, as many as there is work for, from none.

The lanes are elsewhere, and so are gateways and the background. Several such machines may serve the
same models: each looks at what is to be done by itself, so give each its share with `replicas.max`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.model import ModelSpec
from forebay.local.children import environment
from forebay.local.forks import Forks
from forebay.local.home import whole_path
from forebay.local.processes import Supervisor
from forebay.local.stopping import StopError, Stopping
from forebay.local.up import missing_artifacts
from forebay.local.workers import Workers, imported
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

PASSED_ON: Final = (
    "home",
    "models_file",
    "redis_url",
    "key_prefix",
    "worker_memory_mb",
    "idle_unload_s",
    "log_level",
)
"""Settings that workers are to have as they were given here, by flags or otherwise."""


class Pool:
    """One run of `forebay workers run`.

    Args:
        settings: `redis_url` must be set.
        catalog: all models.
        names: of those to serve, by what they are served under; all if there are none.
        show: receives the workers' log lines.

    Raises:
        NotFound: there is no such model.
        ConfigurationError: the home folder can't be.
        ArtifactError: a model is not built.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        names: Sequence[str],
        *,
        show: Callable[[str], None],
    ) -> None:
        named = [catalog.find(name) for name in dict.fromkeys(names)]
        self._specs: list[ModelSpec] = named or list(catalog.wanted)
        home = whole_path(settings.home)
        self._settings = msgspec.structs.replace(
            settings, home=str(home), models_file=str(Path(settings.models_file).resolve())
        )
        missing = [spec.name for spec in missing_artifacts(home, self._specs)]
        if missing:
            raise ArtifactError(
                f"Not built in {home}, or from another specification: {', '.join(missing)}. Run "
                f"`forebay models build {missing[0]}`, or have the artifacts copied there."
            )
        self._show = show

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, through any outage of Redis; then drain.

        Raises:
            ForebayError: a worker that is always wanted could not be kept running. Whatever had
                been started has been stopped.
        """
        stopping = Stopping()
        settings = self._settings
        modules = imported(self._specs)
        forks = Forks(modules) if modules and Forks.possible() else None
        supervisor = Supervisor(drain_s=settings.drain_s, show=self._show, forks=forks)
        await supervisor.open()
        own = {name: getattr(settings, name) for name in PASSED_ON}
        models = {spec.name: spec for spec in self._specs}
        workers = Workers(supervisor, models, settings, environment(own))
        try:
            with contextlib.suppress(StopError):
                await stopping.unless(self._serve(supervisor, workers))
        finally:
            log.info("draining")
            await workers.aclose()
            await supervisor.drain(hurry=stopping.hurry)

    async def _serve(self, supervisor: Supervisor, workers: Workers) -> None:
        names = [spec.name for spec in self._specs]
        failure = asyncio.ensure_future(supervisor.given_up())
        try:
            workers.start(names)
            workers.scale(names)
            supervisor.settled()
            log.info("serving %s", ", ".join(names))
            raise await failure
        finally:
            failure.cancel()
            await asyncio.gather(failure, return_exceptions=True)
