"""Taking up a new artifact, or new code, without dropping a request.

    asked ─▶ the new one is tried in a process of its own ─▶ drain ─▶ exec: the same process, anew

A worker keeps what it opened for as long as it runs. When it is asked to reload
(`lanes/reloads.py`), it first has the model loaded and its samples answered elsewhere: if that
fails it goes on as it is. Then it drains as at SIGTERM, and replaces itself by a fresh image of
itself, which needs nobody to start it. What comes meanwhile waits on the lane, or goes to other
workers.
"""

import asyncio
import logging
import os
import sys
from typing import Final, NoReturn

from redis.exceptions import RedisError

from forebay.lanes.reloads import Reloads, Stage
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often a worker looks whether it is asked."""

LAST_WORDS: Final = 2_000
"""Bytes of what a failed try says last."""


class Reload:
    """One worker's readiness to start anew.

    Args:
        settings: the process's.
        reloads: of what it serves.
        served: name of that.
        worker: its own name.
        version: what it serves now.
        due: set when the worker is to drain and start anew, with all that it serves.
    """

    def __init__(
        self,
        settings: Settings,
        reloads: Reloads,
        served: str,
        *,
        worker: str,
        version: str,
        due: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._reloads = reloads
        self._served = served
        self._worker = worker
        self._version = version
        self._due = due

    async def run(self) -> None:
        """Do as asked until cancelled, or something is due."""
        while not self._due.is_set():
            try:
                await self._look()
            except (RedisError, OSError) as error:
                log.debug("can't tell whether a reload is asked for: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        word = await self._reloads.word(self._worker)
        stage = None if word is None else word.stage
        if stage is Stage.RESTARTING:
            # Said by this process before it started anew: here we are.
            await self._reloads.say(self._worker, Stage.DONE, self._version)
        elif stage is Stage.ASKED:
            await self._reloads.say(self._worker, Stage.TRYING)
            why_not = await self._try()
            if why_not is None:
                await self._reloads.say(self._worker, Stage.RESTARTING)
                log.info("%s starts anew, as it is asked to", self._served)
                self._due.set()
            else:
                await self._reloads.say(self._worker, Stage.FAILED, why_not)
                log.warning("%s goes on as it is: %s", self._served, why_not)

    async def _try(self) -> str | None:
        """Load and warm what is there now in another process; None, or why it can't be done."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "forebay.cli", "models", "check", self._served),
            env={
                **os.environ,
                "FOREBAY_HOME": self._settings.home,
                "FOREBAY_MODELS_FILE": self._settings.models_file,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode == 0:
            return None
        lines = said[-LAST_WORDS:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("forebay: ") if lines else f"exit code {process.returncode}"


def start_anew() -> NoReturn:
    """Replace this process's image by a fresh one of the same command."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very command that we are
