"""`forebay keys`: made, shown, rotated and revoked; what is kept of a secret, and what is not."""

import functools
import json
from typing import Any

import pytest
import redis as redis_sync

from forebay.contract.errors import ForebayError
from tests.fixtures.verbs import Cli


@pytest.fixture
def cli(forebay: Cli) -> Cli:
    """Runs `forebay keys …`."""
    return functools.partial(forebay, "keys")


def shown(cli: Cli, id_: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(cli("show", id_, "--json"))
    return told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "--scopes", "models"), "'models' is no scope"),
        (("create", "--scopes", "lanes=fast"), "'lanes=fast' is no scope"),
        (("create", "--scopes", "admin admin"), "admin is there more than once"),
        (("create", "--scopes", "admin=yes"), "'admin=yes' is no scope"),
        (("create", "--expires", "soon"), "'soon' is no age"),
        (("create", "--expires", "0d"), "expires at once"),
        (("create", "--name", "a\nb"), "printable"),
        (("show", "0" * 12), "There is no API key"),
        (("revoke", "0" * 12), "There is no API key"),
        (("rotate", "0" * 12), "There is no API key"),
        (("revoke", f"fb_{'0' * 12}_{'0' * 64}"), "Give the id alone"),
    ],
)
def test_what_an_operator_gets_wrong_is_told(cli: Cli, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(ForebayError, match=why):
        cli(*words)


def test_a_key_is_printed_once_and_its_secret_is_kept_nowhere(
    cli: Cli, redis_url: str, key_prefix: str
) -> None:
    assert cli("list") == "There are no API keys.\n"
    words = ("--name", "ci", "--scopes", "models=a,b lanes=bulk", "--scopes", "admin")
    limits = ("--requests-per-minute", "60", "--concurrency", "4", "--batch-rows", "9")
    token = cli("create", *words, *limits, "--expires", "30d").strip()
    fb, id_, secret = token.split("_")
    assert (fb, len(id_), len(secret)) == ("fb", 12, 64)

    told = shown(cli, id_)
    assert told["scopes"] == {
        "models": ["a", "b"],
        "lanes": ["bulk"],
        "admin": True,
        "dashboard": False,
    }
    assert told["limits"] == {"requests_per_minute": 60, "concurrency": 4, "batch_rows": 9}
    assert (told["name"], told["state"]) == ("ci", "active")
    assert told["expires"] > told["created"]
    for said in (cli("list"), cli("list", "--json"), cli("show", id_), cli("show", f"fb_{id_}")):
        assert id_ in said
        assert secret not in said

    with redis_sync.Redis.from_url(redis_url) as client:
        found: Any = list(client.scan_iter(f"{key_prefix}:*"))
        dumped = b"".join(bytes(client.dump(key) or b"") for key in found)
        kept: Any = client.hgetall(f"{key_prefix}:{{keys}}:all")
    assert len(found) == 1
    assert secret.encode() not in dumped + repr(kept).encode()


def test_a_key_that_is_rotated_keeps_its_id_and_one_that_is_revoked_stays_so(cli: Cli) -> None:
    first = json.loads(cli("create", "--json"))
    second = json.loads(cli("rotate", first["id"], "--grace", "1h", "--json"))
    assert second["id"] == first["id"]
    assert second["key"] != first["key"]
    assert cli("revoke", first["id"]) == f"{first['id']} is revoked.\n"
    assert cli("revoke", first["id"]) == f"{first['id']} is revoked.\n"
    assert shown(cli, first["id"])["state"] == "revoked"
    with pytest.raises(ForebayError, match="is revoked: create another"):
        cli("rotate", first["id"])
