"""The terminal's side of `forebay up`."""

import asyncio
import sys

from forebay.local.terminal import own_foreground
from forebay.local.up import Up
from forebay.local.welcome import Ready, text
from forebay.runtime.settings import Configuration
from forebay.runtime.telemetry import setup_logging


def run(configuration: Configuration, *, one_worker: bool) -> None:
    """Run `forebay up` until Ctrl-C.

    Args:
        configuration: settings, and which of them were given.
        one_worker: have one worker for all models.

    Raises:
        ForebayError: it could not start, or could not be kept running.
    """
    setup_logging(configuration.settings, "up")
    try:
        with own_foreground():
            up = Up(configuration, show=_show, announce=_announce, one_worker=one_worker)
            code = asyncio.run(up.run())
    except KeyboardInterrupt:
        # Before anything was started, or after all had stopped: there is nothing left to do.
        return
    if code:
        raise SystemExit(code)


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _announce(ready: Ready) -> None:
    print(f"\n{text(ready)}\n", flush=True)
