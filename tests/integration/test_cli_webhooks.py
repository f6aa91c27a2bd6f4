"""`forebay webhooks` by itself, in this process: what an operator gets wrong, and what is kept."""

import functools
import json

import pytest

from forebay.contract.errors import ForebayError
from tests.fixtures.verbs import Cli


@pytest.fixture
def cli(forebay: Cli) -> Cli:
    """Runs `forebay webhooks …`."""
    return functools.partial(forebay, "webhooks")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("show", "msg_1"), "There is no webhook 'msg_1'"),
        (("replay",), "Name webhooks by their ids"),
        (("replay", "msg_1", "--state", "failed"), "Name webhooks by their ids"),
        (("replay", "msg_1"), "There is no webhook 'msg_1'"),
        (("list", "--since", "soon"), "'soon' is no age"),
        (("secret", "drop"), "takes `rotate` or nothing"),
        (("endpoints", "add", "https://169.254.169.254/"), "which is not a public address"),
        (("endpoints", "add", "ftp://a.example/"), "must begin with https"),
        (("endpoints", "add", "https://a.example/", "--events", "gone"), "'gone' is no event"),
        (("endpoints", "remove", "https://a.example/"), "There is no endpoint"),
        (("endpoints", "secret", "https://a.example/"), "There is no endpoint"),
        (("endpoints", "secret", "https://a.example/", "rotate"), "There is no endpoint"),
        (("endpoints", "secret", "https://a.example/", "drop"), "takes `rotate` or nothing"),
        (("endpoints", "enable", "https://a.example/"), "is not disabled"),
    ],
)
def test_what_an_operator_gets_wrong_is_told(cli: Cli, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(ForebayError, match=why):
        cli(*words)


def test_where_nothing_was_sent_there_is_nothing_to_list_or_send_again(cli: Cli) -> None:
    assert cli("list") == "There are no such webhooks.\n"
    assert json.loads(cli("list", "--json")) == []
    assert cli("replay", "--state", "failed") == "0 are sent again.\n"
    assert cli("endpoints", "list") == "There are no endpoints.\n"


def test_a_secret_stays_until_it_is_rotated(cli: Cli) -> None:
    before = cli("secret")
    assert before == cli("secret")
    after = cli("secret", "rotate", "--grace", "1h")
    assert before != after == cli("secret")
    assert after.startswith("whsec_")


def test_an_endpoint_has_the_shared_secret_until_it_is_given_its_own(cli: Cli) -> None:
    one, other = "https://a.example/", "https://b.example/"
    cli("endpoints", "add", one)
    cli("endpoints", "add", other)
    shared = cli("secret")
    assert cli("endpoints", "secret", one) == shared
    own = cli("endpoints", "secret", one, "rotate")
    assert own not in (shared, cli("endpoints", "secret", other))
    assert cli("secret", "rotate") == cli("endpoints", "secret", other)
    cli("endpoints", "remove", one)
    cli("endpoints", "add", one)
    assert cli("endpoints", "secret", one) == own


def test_endpoints_are_added_listed_and_removed(cli: Cli) -> None:
    url = "https://a.example/"
    assert "all events" in cli("endpoints", "add", url)
    cli("endpoints", "add", url, "--events", "batch.failed, response.failed", "--cloudevents")
    assert json.loads(cli("endpoints", "list", "--json")) == [
        {
            "url": url,
            "events": ["batch.failed", "response.failed"],
            "format": "cloudevents",
            "disabled": False,
        }
    ]
    assert "batch.failed, response.failed" in cli("endpoints", "list")
    cli("endpoints", "remove", url)
    assert json.loads(cli("endpoints", "list", "--json")) == []
