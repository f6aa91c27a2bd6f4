"""The shipped configurations, on servers that run with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from tests.fixtures.shapes import Configured
from tests.fixtures.waiting import eventually_sync


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Configured]:
    server = Configured(tmp_path, "disk.conf")
    server.start()
    yield server
    server.kill()


def test_a_killed_server_with_the_disks_configuration_has_kept_every_write_it_answered(
    disk: Configured,
) -> None:
    with disk.client as client:
        for number in range(1_000):
            client.set(f"key{number}", number)
        disk.restart()
        assert client.dbsize() == 1_000


def test_a_full_server_refuses_and_forgets_nothing(disk: Configured) -> None:
    with disk.client as client:
        client.set("key", "value")
        client.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match=r"OOM|maxmemory"):
            client.set("other", "value")
        assert client.get("key") == b"value"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Configured, Configured]]:
    """A primary and its replica."""
    (tmp_path / "primary").mkdir()
    (tmp_path / "replica").mkdir()
    primary = Configured(tmp_path / "primary", "replicated.conf", "min-replicas-max-lag 2")
    primary.start()
    replica = Configured(
        tmp_path / "replica", "replicated.conf", f"replicaof 127.0.0.1 {primary.port}"
    )
    replica.start()
    yield primary, replica
    replica.kill()
    primary.kill()


def test_a_primary_without_a_replica_refuses_writes(pair: tuple[Configured, Configured]) -> None:
    primary, replica = pair

    def takes_writes() -> bool:
        try:
            return bool(client.set("key", "value"))
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            return False

    with primary.client as client:
        eventually_sync(takes_writes)
        assert client.execute_command("WAIT", 1, 8_000) == 1
        replica.pause()
        eventually_sync(lambda: not takes_writes())
        assert client.get("key") == b"value"
        replica.resume()
        eventually_sync(takes_writes)


@pytest.mark.parametrize("name", ["disk.conf", "replicated.conf"])
def test_what_keeps_data_is_the_same_in_both(tmp_path: Path, name: str) -> None:
    server = Configured(tmp_path, name)
    server.start()
    with server.client as client:
        told = client.config_get("append*", "save", "maxmemory-policy", "no-appendfsync*")
    server.kill()
    assert isinstance(told, dict)
    assert (told["appendonly"], told["appendfsync"]) == ("yes", "everysec")
    assert (told["save"], told["maxmemory-policy"]) == ("", "noeviction")
    assert told["no-appendfsync-on-rewrite"] == "no"
