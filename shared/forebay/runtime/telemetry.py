r"""Logging: one plain line a record on stderr, each naming its process.

    2026-03-01T09:30:00.123Z INFO worker:minilm: ready after 0.4 s

A traceback follows its record on lines of its own, indented. Line breaks inside a message are
written as `\n`, so that text from outside can't pretend to be a record.
"""

import logging
import sys
import time

from forebay.runtime.settings import Settings

_QUIET = ("asyncio", "celery", "fsspec", "httpx", "kombu", "urllib3", "uvicorn")
"""Libraries whose informational records say nothing that Forebay's own do not."""


class LineFormatter(logging.Formatter):
    """Formats a record as one line with time (UTC), severity and process.

    Args:
        process_name: which process speaks: `gateway`, `worker:minilm`.
    """

    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    converter = staticmethod(time.gmtime)

    def __init__(self, process_name: str) -> None:
        super().__init__()
        self._process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback's if it has one."""
        message = record.getMessage().strip().replace("\r", "\\r").replace("\n", "\\n")
        when = self.formatTime(record)
        lines = [f"{when} {record.levelname} {self._process_name}: {message}"]
        if record.exc_info:
            lines += [f"    {line}" for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def setup_logging(settings: Settings, process_name: str) -> None:
    """Send this process's log records and warnings to stderr; call once, at its start.

    Args:
        settings: `log_level` says what is logged.
        process_name: shown in every record.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(process_name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
