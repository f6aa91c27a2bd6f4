"""`forebay predict` against a gateway that says what the test wants."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from forebay.cli.predict import ask, check_url, check_wait, read_input, task_of
from forebay.contract.errors import ForebayError, InvalidInput, Unavailable
from forebay.contract.rows import Task


class Gateway:
    """Answers with what it was given, in order, and remembers what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []

    def will_answer(self, *bodies: Any, status: int = 200) -> None:
        """Queue answers."""
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.answers.append((status, data))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A stub of the job API."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            stub.asked.append((self.command, self.path, body, dict(self.headers)))
            status, data = stub.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub = Gateway(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


def test_the_input_is_sent_and_waited_for(gateway: Gateway) -> None:
    done = {"id": "m-0-1", "status": "succeeded", "output": [1.0]}
    gateway.will_answer(done)
    assert ask(f"{gateway.url}/", "m", {"text": "x"}, wait_s=7.5) == done
    method, path, body, headers = gateway.asked[0]
    assert (method, path) == ("POST", "/v1/predictions")
    assert body == {"version": "m", "input": {"text": "x"}}
    assert headers["Prefer"] == "wait=7"


def test_what_takes_longer_is_asked_for_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.cli.predict.POLL_S", 0.0)
    gateway.will_answer(*({"id": "m-0-1", "status": s} for s in ("starting", "processing")))
    gateway.will_answer({"id": "m-0-1", "status": "failed"})
    assert ask(gateway.url, "m", {"text": "x"}, wait_s=30)["status"] == "failed"
    assert [path for _, path, _, _ in gateway.asked[1:]] == ["/v1/predictions/m-0-1"] * 2


def test_the_wait_has_an_end(gateway: Gateway) -> None:
    gateway.will_answer({"id": "m-0-1", "status": "starting"})
    assert ask(gateway.url, "m", {"text": "x"}, wait_s=0.0)["status"] == "starting"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"title": "Not found", "detail": "There is no model 'm' here."}, "no model 'm' here"),
        ({"title": "Not found"}, "Not found"),
        (b"<html>", "The gateway answered 404"),
        ([], "The gateway answered 404"),
    ],
)
def test_a_refusal_is_told_in_the_gateways_words(gateway: Gateway, body: Any, said: str) -> None:
    gateway.will_answer(body, status=404)
    with pytest.raises(ForebayError, match=said):
        ask(gateway.url, "m", {}, wait_s=1)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"id": 1, "status": "succeeded"}',
        b"[" * 5_000,
        b"9" * 5_000,
    ],
)
def test_something_else_that_answers_is_no_gateway(gateway: Gateway, body: bytes) -> None:
    gateway.will_answer(body)
    with pytest.raises(Unavailable, match="no Forebay gateway"):
        ask(gateway.url, "m", {}, wait_s=1)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://127.0.0.1:abc", "Port could not be cast"),
        ("http://127.0.0.1:99999", "Port out of range"),
        ("http://127.0.0.1:0", "port 0"),
        ("http://", "names no host"),
        ("", "no http:// or https://"),
        ("127.0.0.1:8000", "no http:// or https://"),
        ("file:///etc/hostname", "no http:// or https://"),
        ("http://..", "label empty"),
        (f"http://{'a' * 70}", "label"),
        ("http://\udcff", "can't be a gateway's URL"),
        ("http://a b/", "characters"),
        ("http://h:1/\n", "characters"),
        ("http://h:1/é", "characters"),
        ("http://me:secret@h:1", "only host, port and path"),
        ("http://h:1?x=1", "only host, port and path"),
        ("http://h:1#x", "only host, port and path"),
    ],
)
def test_a_url_that_can_not_be_a_gateways_is_refused_in_one_line(url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        ask(url, "m", {}, wait_s=1)
    assert "http://HOST:PORT" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://[::1]:8000/behind/a/proxy", "https://[::1]:8000/behind/a/proxy"),
        ("HTTP://h", "HTTP://h"),
    ],
)
def test_a_url_that_can_be_a_gateways_is_taken(url: str, base: str) -> None:
    assert check_url(url) == base


@pytest.mark.parametrize("wait_s", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_wait_without_an_end_is_refused(wait_s: float) -> None:
    with pytest.raises(InvalidInput, match="--wait takes a number of seconds"):
        check_wait(wait_s)


def test_a_number_that_json_can_not_say_is_not_sent(gateway: Gateway) -> None:
    with pytest.raises(InvalidInput, match="a number that JSON can't say"):
        ask(gateway.url, "m", read_input('{"value": 1e999}', None), wait_s=1)
    assert gateway.asked == []


def test_a_text_goes_where_its_task_wants_it_and_json_as_it_is() -> None:
    assert read_input("x", Task.EMBEDDING) == read_input("x", None) == {"text": "x"}
    assert read_input("x", Task.ECHO) == {"value": "x"}
    assert read_input(' {"text": ["a"]}', Task.ECHO) == {"text": ["a"]}
    assert read_input('[{"a": 1}]', Task.PYTHON) == [{"a": 1}]
    assert read_input("[1]", Task.EMBEDDING) == {"text": "[1]"}
    with pytest.raises(InvalidInput, match=r"starts with '\[' but is not JSON"):
        read_input("[1", Task.PYTHON)
    with pytest.raises(InvalidInput, match="not JSON"):
        read_input("{x", None)
    with pytest.raises(InvalidInput, match="nests too deeply"):
        read_input('{"value": ' + "[" * 2_000 + "]" * 2_000 + "}", None)
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_input("\udcff", None)


def test_the_task_is_known_if_the_catalog_is_here(tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    assert task_of("echo", catalog) is None
    catalog.write_text('[models.echo]\ntask = "echo"\nbackend = "echo"\n')
    assert task_of("echo", catalog) is Task.ECHO
    assert task_of("echo:1", catalog) is Task.ECHO
    assert task_of("other", catalog) is None
