"""The page about Celery apps does what it says: its commands, its calls, its settings file."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from celery import Celery
from redis import Redis

from forebay.background.ingress import apps
from forebay.runtime import catalog
from forebay.runtime.settings import Settings
from tests.fixtures.catalogs import SHIPPED
from tests.fixtures.servers import Server
from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S

PAGE = (ROOT / "docs" / "celery.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BROKER = "redis://127.0.0.1:6379/2"


def blocks(language: str) -> list[str]:
    """The page's code blocks in that language."""
    return [body for found, body in BLOCK.findall(PAGE) if found == language]


class Shop:
    """The page's first commands, as they are running.

    Attributes:
        broker: URL that stands for the page's.
        env: of its commands.
        search: its third command.
    """

    def __init__(self, broker: str, search: list[str]) -> None:
        self.broker = broker
        self.env = {
            **os.environ,
            "SHOP_REDIS": broker,
            "FOREBAY_CELERY_BROKER_URL": broker,
            "FOREBAY_REDIS_URL": broker,
        }
        self.search = search

    def run(self, words: list[str]) -> str:
        """Run a command; returns what it printed."""
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def stack(
    minilm_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, str]]:
    """`forebay up` as the page starts it, but with the broker elsewhere."""
    folder = tmp_path_factory.mktemp("shop")
    server = Server(folder)
    server.start()
    broker = server.url.removesuffix("/0") + "/2"
    try:
        with running_stack(minilm_home, folder, celery_broker_url=broker) as running:
            yield running, broker
    finally:
        server.kill()


@pytest.fixture(scope="module")
def shop(stack: tuple[Stack, str]) -> Iterator[Shop]:
    """The page's commands up to the search, running."""
    _, broker = stack
    start, worker, search = (line for line in blocks("sh")[0].splitlines())
    assert start == f"FOREBAY_CELERY_BROKER_URL={BROKER} forebay up"
    one = Shop(broker, _words(search))
    with subprocess.Popen(_words(worker), cwd=ROOT, env=one.env) as process:
        yield one
        process.terminate()
        process.wait(PATIENCE_S)


def test_the_shop_finds_what_is_asked_for(shop: Shop) -> None:
    assert shop.run(shop.search) == "oak chair\n"
    assert shop.run([*shop.search[:-1], "light to see by at night"]) == "reading lamp\n"


def test_the_call_gives_a_vector(shop: Shop) -> None:
    told: dict[str, object] = {"app": Celery(broker=shop.broker, backend=shop.broker)}
    (call,) = blocks("python")
    exec(call.replace("result.get()", f"vector = result.get(timeout={PATIENCE_S})"), told)
    vector = told["vector"]
    assert isinstance(vector, list)
    assert len(vector) == 384


def test_what_was_put_aside_is_shown_and_deleted(shop: Shop) -> None:
    with Redis.from_url(shop.broker) as broker:
        broker.lpush("forebay.echo", "no message")
    app = Celery(broker=shop.broker, backend=shop.broker)
    after = app.send_task("forebay.predict", [1], queue="forebay.echo")
    assert after.get(timeout=PATIENCE_S) == 1
    listed, as_json, dropped = (shop.run(_words(line)) for line in blocks("sh")[1].splitlines())
    assert "forebay.echo  -  It is no message of Celery's" in listed
    (letter,) = msgspec.json.decode(as_json)
    assert (letter["queue"], letter["id"]) == ("forebay.echo", None)
    assert dropped == "dropped 1 message\n"
    assert shop.run(_words("forebay celery letters")) == "No message was put aside.\n"


def test_the_settings_file_is_one(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    path = tmp_path / "celery.toml"
    path.write_text(text)
    settings = Settings(celery_broker_url=BROKER, celery_file=str(path))
    read = apps.read(settings, catalog.read(SHIPPED))
    assert read.queues["embeddings"].model == "minilm"
    assert read.celery(BROKER).conf.task_routes == tomllib.loads(text)["task_routes"]


def _words(line: str) -> list[str]:
    """A command of the page, with this environment's programs."""
    program, *rest = shlex.split(line)
    modules = {"forebay": ["-m", "forebay.cli"], "celery": ["-m", "celery"], "python": []}
    return [sys.executable, *modules[program], *rest]
