"""`forebay models reload`: workers take up what has been built, one after another."""

import asyncio
import time
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from forebay.contract.errors import ForebayError, Unavailable
from forebay.contract.model import ModelSpec
from forebay.lanes.keys import Keys
from forebay.lanes.reloads import Reloads, Stage
from forebay.runtime import catalog as catalogs
from forebay.runtime.redis import connect
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
    asyncio.run(_reload_all(settings, specs, name))


async def _reload_all(settings: Settings, specs: list[ModelSpec], name: str) -> None:
    redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    keys = Keys(settings.key_prefix)
    found = False
    try:
        for spec in specs:
            reloads = Reloads(redis, keys.of(spec.name))
            for worker in await reloads.workers():
                found = True
                await _reload(reloads, worker, spec.name, within_s=settings.drain_s + LOAD_S)
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis can't be asked: {error}.") from error
    finally:
        await redis.aclose()
    if not found:
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
