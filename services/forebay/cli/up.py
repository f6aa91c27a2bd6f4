"""The terminal's side of `forebay up`."""

import asyncio
import sys

from forebay.local.terminal import own_foreground
from forebay.local.up import Up
from forebay.local.welcome import Ready, text
from forebay.runtime.settings import Configuration
from forebay.runtime.telemetry import setup_logging


def run(configuration: Configuration) -> None:
    """Run `forebay up` until Ctrl-C.

    Raises:
        ForebayError: it could not start, or could not be kept running.
    """
    setup_logging(configuration.settings, "up")
    try:
        with own_foreground():
            code = asyncio.run(Up(configuration, show=_show, announce=_announce).run())
    except KeyboardInterrupt:
        # Before anything was started, or after all had stopped: there is nothing left to do.
        return
    if code:
        raise SystemExit(code)


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _announce(ready: Ready) -> None:
    print(f"\n{text(ready)}\n", flush=True)
