"""Batch files that are as they should be, and those that are not; and lines in flight."""

import io
import tracemalloc
from collections.abc import Iterator

import pytest

from forebay.background.batches.check import Checked, check
from forebay.background.batches.rendering import answer_line
from forebay.background.batches.usage import usage_of
from forebay.background.batches.window import FEWEST, FEWEST_EACH, MOST_BYTES, Window
from forebay.contract.asking import Answered
from forebay.contract.batches import MOST_FAULTS, MOST_LINES, BatchRequest, Usage
from forebay.contract.errors import InvalidInput
from forebay.gateway.dialects.cohere import reranks
from forebay.gateway.dialects.openai import embeddings
from forebay.gateway.dialects.openai import usage as openai_usage
from forebay.gateway.dialects.openai.responses import rendering as responses
from forebay.gateway.http import to_json
from tests.fixtures.batching import EMBEDDINGS, embedding, jsonl, line

GOOD = jsonl([embedding("a", "one"), embedding("b", "two")])


def checked(content: bytes, *, size: int | None = None) -> Checked:
    found = check(
        io.BytesIO(content),
        size=len(content) if size is None else size,
        endpoint=EMBEDDINGS,
        max_body_bytes=1_000,
        halted=lambda: False,
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.removesuffix(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        b"\n \n" + GOOD.replace(b"\n", b"\n\n"),
        b"\xef\xbb\xbf" + GOOD,
        b"\xef\xbb\xbf\r\n" + GOOD.replace(b"\n", b"\r\n").strip(),
        GOOD.replace(b'"a"', '"Ä 🍐 \\u00e4 \\ud83c\\udf50 \\u0000"'.encode()),
        jsonl([line("x" * 512, {}), line("🍐" * 512, {})]),
    ],
    ids=[
        "plain",
        "no last line break",
        "CRLF",
        "blank lines",
        "a byte order mark",
        "all of these",
        "any characters in an id",
        "long ids",
    ],
)
def test_a_file_is_taken_however_its_lines_are_broken(content: bytes) -> None:
    assert checked(content) == Checked(total=2)


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (b'{"custom_id": "x",', "invalid_json_line", None),
        (b"[1]", "invalid_parameter", None),
        (b"\xff\xfe{}", "invalid_json_line", None),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None),
        (b'{"method": "POST", "url": "/v1/embeddings", "body": {}}',
         "missing_required_parameter", "custom_id"),
        (jsonl([line("", {})]), "invalid_custom_id", "custom_id"),
        (jsonl([line("x" * 513, {})]), "invalid_custom_id", "custom_id"),
        (jsonl([line("x", {}, method="GET")]), "invalid_method", "method"),
        (jsonl([line("x", {}, url="/v1/completions")]), "mismatched_endpoint", "url"),
        (jsonl([line("x", [])]), "invalid_body", "body"),
        (jsonl([{**line("x", {}), "custom_id": 1}]), "invalid_parameter", "custom_id"),
        (jsonl([embedding("a", "again")]), "duplicate_custom_id", "custom_id"),
        (jsonl([embedding("x", "long" * 3_000)]), "line_too_long", None),
        (b'{"custom_id": "x", "method": "POST", "url": "/v1/embeddings", "body": '
         + b"[" * 5_000 + b"]" * 5_000 + b"}", "line_too_long", None),
        (b"[" * 5_000, "invalid_parameter", None),
        (b"null", "invalid_parameter", None),
        (b"0", "invalid_parameter", None),
        (b"{} {}", "missing_required_parameter", "custom_id"),
        (jsonl([line("x" * 9_000, {})]), "invalid_custom_id", "custom_id"),
        (jsonl([{**line("x", {}), "custom_id": None}]), "invalid_parameter", "custom_id"),
        (jsonl([line("x", None)]), "invalid_body", "body"),
        (jsonl([line("x", "{}")]), "invalid_body", "body"),
        (jsonl([line("x", {}, url="/v1/nowhere")]), "mismatched_endpoint", "url"),
        (jsonl([line("x", {}, url="https://here/v1/embeddings")]), "mismatched_endpoint", "url"),
        (jsonl([line("\ud800", {})]), "invalid_json_line", None),
        ('{"custom_id": "x"}'.encode("utf-16"), "invalid_json_line", None),
        (jsonl([embedding("x", "?")]).replace(b"?", b"\xff"), "invalid_json_line", None),
        (jsonl([embedding("x", "?")]).replace(b"{", b'{"own": "\xe9", ', 1),
         "invalid_json_line", None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_line_is_told_with_its_number(
    text: bytes, code: str, param: str | None
) -> None:
    found = checked(GOOD + b"\n" + text.strip() + b"\n" + jsonl([embedding("z", "fine")]))
    (fault,) = found.faults
    assert (fault.code, fault.line, fault.param, found.total) == (code, 4, param, 0)
    assert fault.message.endswith((".", "…"))


@pytest.mark.parametrize("text", [b"[]", b"null", b'"x"', b"0"])
def test_a_line_that_is_no_object_is_not_told_to_be_a_body(text: bytes) -> None:
    (fault,) = checked(text).faults
    assert fault.message == "The line is no JSON object."


def test_only_the_first_faults_are_told() -> None:
    found = checked(b"no\n" * (MOST_FAULTS + 1))
    assert [fault.line for fault in found.faults] == [*range(1, MOST_FAULTS + 1)]


def test_a_file_without_requests_or_with_too_many_is_refused() -> None:
    assert [fault.code for fault in checked(b"\n\n").faults] == ["empty_file"]
    assert [fault.code for fault in checked(b"").faults] == ["empty_file"]
    most = [line(f"{number}", {}) for number in range(MOST_LINES)]
    assert checked(jsonl(most)) == Checked(total=MOST_LINES)
    (fault,) = checked(jsonl([*most, line("one more", {})])).faults
    assert (fault.code, fault.message) == (
        "too_many_requests", "The file has more than 50,000 requests, the most of a batch.",
    )  # fmt: skip


def test_a_line_of_50_mb_is_told_of_and_not_held() -> None:
    long = b'{"custom_id": "x", "body": "' + b"x" * 50_000_000 + b'"}\n'
    file = io.BytesIO(GOOD + long + jsonl([embedding("c", "three")]))
    del long
    tracemalloc.start()
    try:
        found = check(
            file,
            size=file.getbuffer().nbytes,
            endpoint=EMBEDDINGS,
            max_body_bytes=1_000,
            halted=lambda: False,
        )
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert found is not None
    assert [(fault.line, fault.code) for fault in found.faults] == [(3, "line_too_long")]


def test_a_file_of_201_mb_is_refused_unread() -> None:
    (fault,) = checked(b"", size=201_000_000).faults
    assert fault.code == "file_too_large"
    assert "201,000,000 bytes" in fault.message


def test_a_check_can_be_halted() -> None:
    halts: Iterator[bool] = iter([False, True])
    arguments = {"size": 1, "endpoint": EMBEDDINGS, "max_body_bytes": 1_000}
    assert check(io.BytesIO(GOOD), halted=lambda: next(halts), **arguments) is None  # type: ignore[arg-type]


def test_usage_is_read_off_the_answers_of_every_endpoint() -> None:
    chat = openai_usage.Usage(
        10, 4, 14, openai_usage.PromptDetails(6), openai_usage.CompletionDetails(0, 0)
    )
    response = responses.Usage(3, responses.InputDetails(2), 5, responses.OutputDetails(), 8)
    told = [
        {"usage": chat},
        {"usage": response},
        {"usage": embeddings.Usage(20, 20), "data": [{"embedding": [0.5]}]},
        {"usage": reranks.Usage(30)},
        {"usage": None},
        {"results": [{"flagged": False}]},
    ]
    answers = [answer_line("id", "a", Answered(200, {}, to_json(body))) for body in told]
    assert usage_of(answers) == Usage(input=63, cached=8, output=9)
    assert usage_of(answers).total == 72
    assert usage_of([]) == Usage()


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86_400), ("1h", 3_600), ("7d", 604_800)])
def test_windows_are_hours_or_days(window: str, seconds: int) -> None:
    assert BatchRequest(EMBEDDINGS, "file", window).window_s == seconds


@pytest.mark.parametrize("window", ["", "24", "0h", "169h", "8d", "1m", "24H", "-1h"])
def test_other_windows_are_refused(window: str) -> None:
    with pytest.raises(InvalidInput, match="24h is usual") as refused:
        assert BatchRequest(EMBEDDINGS, "file", window).window_s
    assert refused.value.param == "completion_window"


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_window_has_a_seconds_worth_of_lines_shared_by_its_batches() -> None:
    clock = _Clock()
    window = Window(now=clock)
    window.join()
    assert window.share == FEWEST
    for _ in range(20):
        clock.now_s += 1.0
        for _ in range(2_000):
            window.begin(1)
            window.end(1)
    assert 1_800 <= window.share <= 2_200
    window.join()
    assert 900 <= window.share <= 1_100
    for _ in range(100):
        window.join()
    assert window.share == FEWEST_EACH


def test_a_window_is_bounded_in_bytes_but_every_batch_may_have_a_line() -> None:
    window = Window()
    window.join()
    assert window.has_room(0, 2 * MOST_BYTES)
    window.begin(MOST_BYTES)
    assert not window.has_room(1, 1)
    assert window.has_room(0, 1)
    window.end(MOST_BYTES)
    assert window.has_room(1, 1)
    assert not window.has_room(FEWEST, 1)


def test_a_window_that_was_full_is_filled_by_many_at_once() -> None:
    window = Window()
    window.join()
    assert window.has_room(FEWEST - 1, 1)
    assert not window.has_room(FEWEST - 1, 1, again=True)
    assert window.has_room(FEWEST * 7 // 8 - 1, 1, again=True)
    assert window.has_room(0, 1, again=True)
