"""`forebay predict` and `chat` with a model that generates text; gateway and worker are real."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from forebay.cli.predict import read_input
from forebay.cli.texts import converse, events, grows, show
from forebay.contract.errors import DeadlineExceeded, ForebayError
from forebay.contract.generation import GenerationTable
from forebay.contract.rows import Task
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.gateway import running_gateway
from tests.fixtures.generating import PARROT, generating
from tests.fixtures.waiting import PATIENCE_S, eventually


@pytest.fixture
async def url(redis_url: str, key_prefix: str) -> AsyncIterator[str]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with running_gateway(settings, catalog=PARROT) as gateway:
        yield gateway.url


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(context=32))):
        yield


def test_a_text_is_asked_as_a_chat_and_shown_as_it_grows() -> None:
    asked = read_input("Hi there", Task.GENERATION)
    assert asked == {"messages": [{"role": "user", "content": "Hi there"}], "temperature": 0}
    assert grows(Task.GENERATION, asked)
    assert not grows(Task.GENERATION, read_input('{"prompt": ["a", "b"]}', Task.GENERATION))
    assert not grows(Task.EMBEDDING, {"text": "x"})
    assert not grows(None, {"text": "x"})


def test_events_are_read_as_they_are_written() -> None:
    lines = [b": hm\n", b"\n", b"event: output\n", b"id: 1\n", b"data: a\n", b"data:  b\n", b"\n"]
    assert list(events([*lines, b"data:c\r\n", b"\r\n"])) == [("output", "a\n b"), ("message", "c")]


async def test_predict_shows_the_text(
    url: str, worker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = read_input("Over the weir,\nand down", Task.GENERATION)
    await asyncio.to_thread(show, url, "parrot", asked, wait_s=PATIENCE_S)
    assert capsys.readouterr().out == "Over the weir,\nand down\n"


async def test_predict_says_why_there_is_no_text(url: str, worker: None) -> None:
    with pytest.raises(ForebayError, match="takes 32 together"):
        await asyncio.to_thread(show, url, "parrot", {"prompt": "word " * 40}, wait_s=PATIENCE_S)
    with pytest.raises(ForebayError, match="Unknown parameter"):
        await asyncio.to_thread(show, url, "parrot", {"text": "x"}, wait_s=PATIENCE_S)


async def test_predict_cancels_what_takes_too_long(url: str, redis_url: str, keys: Keys) -> None:
    generator = EchoGenerator(GenerationTable(tokens_per_s=50))
    async with generating(redis_url, keys, generator):
        with pytest.raises(DeadlineExceeded, match="longer --wait"):
            await asyncio.to_thread(show, url, "parrot", {"prompt": "word " * 900}, wait_s=0.5)
        await eventually(lambda: not generator.engine.busy, what="the slot is free")


async def test_chat_goes_on_until_its_input_ends(
    url: str, worker: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"Hello there\n\n{'word ' * 40}\nAnd again\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    await asyncio.to_thread(converse, url, "parrot", system="Be brief.", wait_s=PATIENCE_S)
    shown = capsys.readouterr()
    assert shown.out == "Hello there\nAnd again\n"
    assert "takes 32 together" in shown.err


async def test_chat_ends_if_nothing_can_be_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    with pytest.raises(ForebayError, match="no model"):
        await asyncio.to_thread(converse, url, "nobody", wait_s=PATIENCE_S)
