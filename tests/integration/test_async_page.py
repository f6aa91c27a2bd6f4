"""The page on files and jobs does what it says: its blocks are run as a reader would."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.integration.test_readme import BLOCK, here, run

PAGE = (ROOT / "docs" / "async.md").read_text("utf-8")
CATALOG = "docs/examples/thumbnails.toml"


@pytest.fixture(scope="module")
def thumbnails() -> Iterator[Stack]:
    """A stack with the page's catalog."""
    with tempfile.TemporaryDirectory(prefix="forebay-files-") as name:
        folder = Path(name)
        with running_stack(folder, folder, models_file=str(ROOT / CATALOG)) as running:
            yield running


def block(language: str, holding: str) -> str:
    """The block with these words."""
    found: list[str] = [body for of, body in BLOCK.findall(PAGE) if of == language]
    (one,) = (body for body in found if holding in body)
    return one


def test_openais_client_sends_and_reads_a_file(thumbnails: Stack) -> None:
    script = here(block("python", "client.files.create"), thumbnails)
    printed = run([sys.executable, "-c", script], thumbnails)
    assert printed == "notes.txt 23 bytes\nA river feeds the lake.\n"


def test_openais_client_sends_a_file_in_parts(thumbnails: Stack) -> None:
    script = here(block("python", "upload_file_chunked"), thumbnails)
    assert run([sys.executable, "-c", script], thumbnails) == "completed architecture.md\n"


def test_curl_sends_a_file(thumbnails: Stack) -> None:
    made = run(["bash", "-euc", here(block("sh", "-F file="), thumbnails)], thumbnails)
    assert json.loads(made)["filename"] == "architecture.md"


def test_replicates_client_sends_a_file_and_gets_one(thumbnails: Stack) -> None:
    assert CATALOG in PAGE
    script = here(block("python", "thumbnails"), thumbnails)
    assert run([sys.executable, "-c", script], thumbnails) == "(64, 48)\n"
