"""Bodies within bounds, and endpoints that always answer."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.prediction import Timing
from forebay.gateway.errors import PayloadTooLarge
from forebay.gateway.http import (
    Answer,
    Call,
    Endpoint,
    Exchange,
    RequestIds,
    read_body,
    render_problem,
    server_timing,
)
from forebay.gateway.paths import routes_of

Message = MutableMapping[str, Any]


def receiving(*chunks: bytes, then_leaves: bool = False) -> Callable[[], Awaitable[Message]]:
    """A client that sends these chunks, and goes away before the last if told to."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks) or then_leaves}
        for n, chunk in enumerate(chunks, 1)
    ]
    if then_leaves:
        messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    return receive


def scope(
    *, method: str = "POST", path: str = "/x", headers: Sequence[tuple[bytes, bytes]] = ()
) -> Message:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "headers": list(headers),
    }


class Sent:
    """What an endpoint sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return bytes(self.messages[1]["body"])


async def test_a_body_in_one_piece_is_read() -> None:
    assert await read_body(scope(), receiving(b"abc"), 3) == b"abc"


async def test_a_body_in_many_pieces_is_put_together() -> None:
    assert await read_body(scope(), receiving(b"a", b"", b"bc", b"d"), 4) == b"abcd"


async def test_no_body_is_an_empty_body() -> None:
    assert await read_body(scope(), receiving(b""), 3) == b""


async def test_a_body_announced_as_too_large_is_refused_before_any_of_it_is_read() -> None:
    async def receive() -> Message:
        raise AssertionError("nothing may be read")

    with pytest.raises(PayloadTooLarge, match="1,000 bytes"):
        await read_body(scope(headers=[(b"content-length", b"1001")]), receive, 1_000)


@pytest.mark.parametrize("chunks", [(b"abcd",), (b"ab", b"cd"), (b"ab", b"c", b"d", b"e")])
async def test_a_body_that_turns_out_too_large_is_refused(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(PayloadTooLarge):
        await read_body(scope(), receiving(*chunks), 3)


async def test_an_endless_body_is_not_kept_beyond_the_bound() -> None:
    given = 0

    async def receive() -> Message:
        nonlocal given
        given += 10
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    with pytest.raises(PayloadTooLarge):
        await read_body(scope(), receive, 100)
    assert given == 110


async def test_a_client_that_leaves_before_its_body_has_come_has_none() -> None:
    assert await read_body(scope(), receiving(b"ab", then_leaves=True), 10) is None


def endpoint(handle: Callable[[Call], Awaitable[Answer]], *methods: str) -> Endpoint:
    return Endpoint(
        Exchange(max_body_bytes=100),
        dict.fromkeys(methods or ("POST",), handle),
        render=render_problem,
        dialect="none",
    )


async def test_an_endpoint_answers_each_method_by_its_own_handler() -> None:
    async def shown(call: Call) -> Answer:
        return Answer(b"shown")

    async def gone(call: Call) -> Answer:
        return Answer(b"gone")

    exchange = Exchange(max_body_bytes=100)
    (route,) = routes_of(
        exchange, {"/it": {"GET": shown, "DELETE": gone}}, render=render_problem, dialect="none"
    )
    answers = {}
    for method in ("GET", "HEAD", "DELETE", "PUT"):
        sent = Sent()
        await route.app(scope(method=method), receiving(b""), sent)
        answers[method] = sent
    assert [answers[method].body for method in ("GET", "HEAD", "DELETE")] == [
        b"shown",
        b"shown",  # the server leaves it out
        b"gone",
    ]
    assert answers["PUT"].status == 405
    assert answers["PUT"].headers[b"allow"] == b"DELETE, GET, HEAD"


async def test_only_paths_that_say_so_leave_the_body_to_their_handler() -> None:
    async def length(call: Call) -> Answer:
        return Answer(b"whole" if call.receive is None else b"unread")

    exchange = Exchange(max_body_bytes=100)
    paths = {"/files": {"POST": length}, "/texts": {"POST": length}}
    found = []
    for route in routes_of(
        exchange, paths, render=render_problem, dialect="none", unread={"/files"}
    ):
        sent = Sent()
        await route.app(scope(method="POST"), receiving(b"a"), sent)
        found.append((route.path, sent.body))
    assert found == [("/files", b"unread"), ("/texts", b"whole")]


async def test_an_endpoint_answers_with_length_type_and_request_id() -> None:
    async def handle(call: Call) -> Answer:
        return Answer(call.body * 2, 202, headers=((b"x-more", b"1"),))

    sent = Sent()
    await endpoint(handle)(scope(), receiving(b"ab"), sent)
    assert (sent.status, sent.body) == (202, b"abab")
    assert sent.headers[b"content-length"] == b"4"
    assert sent.headers[b"content-type"] == b"application/json"
    assert sent.headers[b"x-more"] == b"1"
    assert sent.headers[b"x-request-id"].startswith(b"req_")


async def test_an_endpoint_renders_errors_that_are_meant_for_clients() -> None:
    async def handle(call: Call) -> Answer:
        raise InvalidInput("no good", param="p")

    sent = Sent()
    await endpoint(handle)(scope(), receiving(b""), sent)
    assert sent.status == 400
    told = msgspec.json.decode(sent.body)
    assert (told["detail"], told["param"]) == ("no good", "p")
    assert told["instance"].encode().endswith(sent.headers[b"x-request-id"])


async def test_an_endpoint_hides_errors_that_are_not() -> None:
    async def handle(call: Call) -> Answer:
        raise RuntimeError("secret")

    sent = Sent()
    await endpoint(handle)(scope(), receiving(b""), sent)
    assert sent.status == 500
    assert b"secret" not in sent.body
    assert b"err_" in sent.body


async def test_an_endpoint_refuses_other_methods_and_names_its_own() -> None:
    async def handle(call: Call) -> Answer:
        raise AssertionError

    sent = Sent()
    await endpoint(handle, "GET")(scope(method="DELETE"), receiving(b""), sent)
    assert sent.status == 405
    assert sent.headers[b"allow"] == b"GET, HEAD"


async def test_an_endpoint_does_not_answer_a_client_that_has_left() -> None:
    async def handle(call: Call) -> Answer:
        raise AssertionError

    sent = Sent()
    await endpoint(handle)(scope(), receiving(b"a", then_leaves=True), sent)
    assert sent.messages == []


async def test_an_endpoint_lets_itself_be_cancelled() -> None:
    async def handle(call: Call) -> Answer:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await endpoint(handle)(scope(), receiving(b""), Sent())


def test_a_header_sent_twice_is_one_list() -> None:
    headers = [(b"prefer", b"wait"), (b"host", b"h:1"), (b"prefer", b"handling=lenient")]
    call = Call(scope(headers=headers), b"", "r")
    assert call.header(b"prefer") == b"wait, handling=lenient"
    assert call.header(b"nothing") == b""
    assert call.base_url == "http://h:1"


def test_request_ids_differ_within_a_process_and_between_two() -> None:
    one, other = RequestIds(), RequestIds()
    ids = [one.next(), one.next(), other.next(), other.next()]
    assert len(set(ids)) == 4


def test_server_timing_splits_queue_batch_and_compute() -> None:
    ((name, value),) = server_timing(Timing(1.234, 0.5, 20))
    assert name == b"server-timing"
    assert value == b"queue;dur=1.23, batch;dur=0.50, compute;dur=20.00"


def test_without_timing_there_is_no_header() -> None:
    assert server_timing(None) == ()
