"""The page on generated text does what it says: its blocks are run as a reader would."""

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from forebay.contract.generation import GenerationTable
from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.integration.test_readme import BLOCK, here, run

PAGE = (ROOT / "docs" / "generation.md").read_text("utf-8")
CATALOG = "docs/examples/parrot.toml"
SAID = "Over the weir and down the race"


@pytest.fixture(scope="module")
def parrots() -> Iterator[Stack]:
    """A stack with the page's catalog."""
    with tempfile.TemporaryDirectory(prefix="forebay-parrots-") as name:
        folder = Path(name)
        with running_stack(folder, folder, models_file=str(ROOT / CATALOG)) as running:
            yield running


@pytest.fixture(autouse=True)
def catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page's reader has set for `forebay up` is set for the other commands too."""
    monkeypatch.setenv("FOREBAY_MODELS_FILE", str(ROOT / CATALOG))


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(PAGE) if found == language]


def shell(stack: Stack, holding: str) -> str:
    """What the block with these words prints."""
    (block,) = (block for block in blocks("sh") if holding in block)
    return run(["bash", "-euc", here(block, stack)], stack)


def test_the_terminal_shows_texts(parrots: Stack) -> None:
    assert shell(parrots, "forebay predict") == f"{SAID}\n"
    assert shell(parrots, "forebay chat") == "Where does the water go?\n"


def test_openais_client_streams_a_chat(parrots: Stack) -> None:
    block = blocks("python")[0]
    printed = run([sys.executable, "-c", here(block, parrots)], parrots)
    assert printed == f"{SAID}\n7 tokens\n"


def test_openais_client_goes_on_with_responses_and_reads_one_again(parrots: Stack) -> None:
    (block,) = (block for block in blocks("python") if "responses.create" in block)
    printed = run([sys.executable, "-c", here(block, parrots)], parrots)
    first, items, *words, status = printed.splitlines()
    assert (first, items) == ("Over the weir and down the race", "3 items before it")
    assert "".join(words) == "Over the weir"
    assert status == "completed"


def deltas(lines: list[str]) -> list[str]:
    """What the events in these lines add to the text."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return [json.loads(one)["choices"][0]["delta"].get("content", "") for one in data]


def test_a_chat_that_was_cut_goes_on(parrots: Stack) -> None:
    lines = shell(parrots, "idempotency-key").splitlines()
    # The event that says whose message it is, and the first three words.
    assert deltas(lines[:12]) == ["", *re.findall(r" ?\S+", SAID)[:3]]
    rest = lines[12:]
    assert rest[0] == "id: 3"
    assert "".join(deltas(rest)) == SAID.removeprefix("Over the")
    assert rest[-2:] == ["data: [DONE]", ""]


def test_a_prediction_is_streamed_and_read_again(parrots: Stack) -> None:
    printed = shell(parrots, "last-event-id: 1'")
    assert printed.count("event: done\n") == 2
    assert printed.count("data: Over\n") == 1
    assert printed.count("data:  the\n") == 2


def test_the_catalog_says_how_many_texts_grow_and_who_drafts() -> None:
    block, slots = blocks("toml")
    table = tomllib.loads(slots)["models"]["smollm2"]["generation"]
    assert msgspec.convert(table, GenerationTable).slots == 8
    for said in ("lookup", "off"):
        table = tomllib.loads(block.replace('"lookup"', f'"{said}"', 1))
        table = table["models"]["smollm2"]["generation"]
        assert msgspec.convert(table, GenerationTable).speculation == said


def test_every_block_of_the_page_is_run_by_a_test_above() -> None:
    # The blocks of Python on forms and tools are run where there are models for them: by
    # tests/integration/test_smollm2.py and tests/contract/test_openai_formats.py. That on an edit
    # is run by tests/contract/test_openai_predictions.py.
    assert (len(blocks("sh")), len(blocks("python"))) == (4, 5)
    assert CATALOG in PAGE
