"""Redis URLs: what is refused, and what is never shown."""

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.runtime.redis import check_url, connect, connect_blocking, mask
from forebay.runtime.redis.urls import read_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://user:secret@host:1/0", "redis://user:***@host:1/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("rediss://user:p@ss@host", "rediss://user:***@host"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix://user:***@/run/redis.sock?db=1"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis://u:a@host/0?db=1&password=secret", "redis://u:***@host/0?db=1&password=***"),
        ("redis+sentinel://u:a@h:1,i:2/s/0", "redis+sentinel://u:***@h:1,i:2/s/0"),
        ("redis+sentinel://h/s?sentinel_password=b", "redis+sentinel://h/s?sentinel_password=***"),
        ("", ""),
    ],
)
def test_a_shown_url_keeps_all_but_the_password(url: str, shown: str) -> None:
    assert mask(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@host",
        "localhost:6379",
        "",
        "redis://:secret@host:port",
        "redis://h:99999",
        "redis://[::1",
        "redis://:secret@..",
        "redis://\udcff",
        "unix://",
        "redis://:secret@host/0?protocol=9",
        "redis+sentinel://:secret@host",
        "redis+sentinel://:secret@host:26379/",
        "redis+sentinel:///service",
        "redis+sentinel://:secret@host:port/service",
        "redis+sentinel://:secret@host,,other/service",
        "redis+sentinel://:secret@host/service/one",
        "redis+sentinel://host/service?sentinel_colour=red",
        "redis+cluster://",
        "redis+cluster://:secret@host,other/1",
        "redis+cluster://:secret@host,other?db=1",
        "redis+cluster://host?colour=red",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be understood") as caught:
        connect(url, timeout_s=1)
    assert "secret" not in caught.value.message


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigurationError, match="there is no option 'colour'"):
        connect("redis://h/0?colour=red", timeout_s=1)


def test_sentinels_and_their_service_are_read_from_the_url() -> None:
    place = read_url(
        "rediss+sentinel://me:p%40ss@one:1,[::1]:2,three/the-service/4"
        "?ssl_check_hostname=false&sentinel_username=us&sentinel_password=other"
    )
    assert place.sentinels == (("one", 1), ("::1", 2), ("three", 26379))
    assert (place.service, place.tls) == ("the-service", True)
    assert place.options == {
        "username": "me",
        "password": "p@ss",
        "db": 4,
        "ssl_check_hostname": False,
    }
    assert place.sentinel_options == {
        "username": "us",
        "password": "other",
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize(
    "url", ["redis://", "rediss://h", "unix:///run/redis.sock?db=1", "redis+sentinel://h/s"]
)
def test_a_url_that_makes_sense_is_taken(url: str) -> None:
    check_url(url)


async def test_a_client_neither_repeats_commands_nor_dresses_up_answers() -> None:
    client = connect("redis://h:1/2", timeout_s=0.5)
    told = client.connection_pool.connection_kwargs
    assert client.response_callbacks == {}
    assert told["retry"].get_retries() == 0
    assert told["protocol"] == 2
    assert told["socket_timeout"] == told["socket_connect_timeout"] == 0.5
    await client.aclose()


async def test_a_blocking_client_waits_for_its_answer_as_long_as_it_takes() -> None:
    client = connect_blocking("redis://h:1/2", timeout_s=0.5)
    told = client.connection_pool.connection_kwargs
    assert told["socket_timeout"] is None
    assert told["socket_connect_timeout"] == 0.5
    await client.aclose()
