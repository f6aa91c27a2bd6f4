"""Log lines: one a record, each naming its process."""

import logging
import re
from collections.abc import Iterator

import pytest

from forebay.runtime.settings import Settings
from forebay.runtime.telemetry import LineFormatter, setup_logging


def formatted(message: str, *args: object, exc_info: object = None) -> str:
    """A record as it is written."""
    record = logging.makeLogRecord(
        {"msg": message, "args": args, "levelname": "INFO", "created": 0.5, "msecs": 500.0,
         "exc_info": exc_info}
    )  # fmt: skip
    return LineFormatter("worker:minilm").format(record)


def test_a_record_is_a_line_with_time_severity_and_process() -> None:
    assert formatted("%d rows", 3) == "1970-01-01T00:00:00.500Z INFO worker:minilm: 3 rows"


def test_text_from_outside_can_not_pretend_to_be_a_record() -> None:
    line = formatted("unknown model %s", "x\r\n2026-01-01T00:00:00.000Z INFO gateway: all is well")
    assert "\n" not in line
    assert "\r" not in line
    assert r"x\r\n2026" in line


def test_a_traceback_follows_indented() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        first, *rest = formatted("failed", exc_info=(ValueError, error, None)).split("\n")
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Puts back what `setup_logging` changes for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("untouched_logging")
def test_the_level_is_a_setting_and_libraries_only_warn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging(Settings(log_level="info"), "gateway")
    logging.getLogger("forebay.x").debug("hidden")
    logging.getLogger("forebay.x").info("shown")
    logging.getLogger("celery.beat").info("hidden")
    logging.getLogger("kombu").warning("shown too")
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\S+ ", "", line) for line in lines] == [
        "INFO gateway: shown",
        "WARNING gateway: shown too",
    ]
