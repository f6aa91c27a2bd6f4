"""The page on batches does what it says: its blocks are run as a reader would."""

import json
import re
import sys

import pytest

from tests.fixtures.stack import ROOT, Stack
from tests.integration.test_readme import BLOCK, here, run

PAGE = (ROOT / "docs" / "batches.md").read_text("utf-8")


def block(language: str) -> str:
    """The page's one block in a language."""
    (one,) = (body for of, body in BLOCK.findall(PAGE) if of == language)
    return str(one)


@pytest.fixture(scope="module")
def printed(stack: Stack) -> str:
    """What the page's script prints."""
    return run([sys.executable, "-c", here(block("python"), stack)], stack)


def forebay(stack: Stack, *words: str) -> str:
    return run([sys.executable, "-m", "forebay.cli", *words], stack)


def test_the_example_runs_a_batch(printed: str) -> None:
    first, *lines = printed.splitlines()
    assert first == "completed 3 of 3"
    assert sorted(lines) == [f"passage-{number} 200" for number in range(3)]


@pytest.mark.usefixtures("printed")
def test_the_commands_show_it(stack: Stack) -> None:
    commands = block("sh").splitlines()
    assert [re.sub(" BATCH", "", command) for command in commands] == [
        "forebay batches list",
        "forebay batches show",
        "forebay batches show --follow",
        "forebay batches cancel",
    ]
    batch, *_ = json.loads(forebay(stack, "batches", "list", "--json"))
    for command in commands[:3]:
        shown = forebay(stack, *command.replace("BATCH", batch["id"]).split()[1:])
        assert batch["id"] in shown
        assert "completed" in shown
    assert batch["usage"]["input"] > 0
    assert f"{batch['usage']['input']} asked, 0 answered" in shown
    with pytest.raises(AssertionError, match="completed, and can't be cancelled any more"):
        forebay(stack, *commands[3].replace("BATCH", batch["id"]).split()[1:])
    with pytest.raises(AssertionError, match="There is no batch"):
        forebay(stack, "batches", "show", "nothing")
