"""`forebay models reload`: workers take up what has been built, one after another."""

import asyncio
import time
from pathlib import Path
from typing import Final

from forebay.cli.asking import ask
from forebay.contract.errors import ForebayError, Unavailable
from forebay.lanes.keys import Keys
from forebay.lanes.reloads import Reloads, Stage
from forebay.runtime import catalog as catalogs
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings

POLL_S: Final = 0.1
LOAD_S: Final = 300.0
"""For loading a model twice, beyond the time to drain."""


def run(settings: Settings, name: str) -> None:
    """Reload the workers of a model, or of one version, and say how it goes.

    Raises:
        ForebayError: a worker could not take up what is there; those after it were not asked.
        Unavailable: there is no worker, or Redis can't be asked.
    """
    catalog = catalogs.read(Path(settings.models_file))
    spec = catalog.find(name)
    several = spec.versions and spec.shares
    specs = [catalog.version(spec, version) for version in several] or [spec]

    async def reload_all(redis: Commands, keys: Keys) -> bool:
        found = False
        for one in specs:
            reloads = Reloads(redis, keys.of(one.name))
            for worker in await reloads.workers():
                found = True
                await _reload(reloads, worker, one.name, within_s=settings.drain_s + LOAD_S)
        return found

    if not ask(settings, reload_all):
        raise Unavailable(f"{name} has no worker ready: the next one takes up what is there.")


async def _reload(reloads: Reloads, worker: str, served: str, *, within_s: float) -> None:
    """Reload one worker and wait until it is ready again.

    Raises:
        ForebayError: it can't take up what is there, is gone, or takes too long.
    """
    await reloads.say(worker, Stage.ASKED)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        word = await reloads.word(worker)
        stage = None if word is None else word.stage
        if word is not None and stage in (Stage.DONE, Stage.FAILED):
            await reloads.forget(worker)
            if stage is Stage.FAILED:
                raise ForebayError(
                    f"{served} goes on as it was, at {worker}: {word.detail} No further worker was "
                    "asked."
                )
            print(f"{served} {word.detail} is ready at {worker}", flush=True)
            return
        if stage is not Stage.RESTARTING and worker not in await reloads.workers():
            raise ForebayError(f"{worker} has gone. The next worker takes up what is there.")
    await reloads.forget(worker)
    raise ForebayError(f"{worker} is not done after {within_s:g} s. See its log.")
