"""The table from kinds of error to HTTP."""

import logging

import msgspec
import pytest

from forebay.contract.errors import (
    ErrorInfo,
    ErrorKind,
    ForebayError,
    InvalidInput,
    LaneFull,
    NotFound,
    TooLong,
    Unavailable,
)
from forebay.gateway import errors
from forebay.gateway.dialects import openai, replicate


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_of_error_has_a_status_and_a_title(kind: ErrorKind) -> None:
    status, title = errors.TABLE[kind]
    assert 400 <= status < 600
    assert title


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_an_error_that_comes_back_from_a_worker_keeps_its_kind(kind: ErrorKind) -> None:
    error = errors.raised(ErrorInfo(kind, "so it goes", row=3, param="p"))
    assert (error.kind, error.message, error.row, error.param) == (kind, "so it goes", 3, "p")
    assert errors.fault_of(error).status == errors.TABLE[kind][0]


def test_raising_one_kind_does_not_change_the_class_for_others() -> None:
    errors.raised(ErrorInfo(ErrorKind.WORKER_LOST, "gone"))
    assert ForebayError("x").kind is ErrorKind.INTERNAL


def test_too_long_comes_back_as_the_exception_of_that_name() -> None:
    assert isinstance(errors.raised(ErrorInfo(ErrorKind.TOO_LONG, "x")), TooLong)


def test_an_end_without_a_reason_is_an_internal_error() -> None:
    assert errors.fault_of(errors.raised(None)).status == 500


@pytest.mark.parametrize("error", [LaneFull("full"), Unavailable("gone")])
def test_what_may_work_later_says_when(error: ForebayError) -> None:
    assert errors.fault_of(error).headers == ((b"retry-after", b"1"),)


def test_retry_after_is_rounded_up_to_whole_seconds() -> None:
    fault = errors.fault_of(LaneFull("full", retry_after_s=2.1))
    assert fault.headers == ((b"retry-after", b"3"),)


def test_what_can_not_work_later_does_not_say_when() -> None:
    assert errors.fault_of(InvalidInput("wrong")).headers == ()


def test_a_wrong_method_is_told_the_right_ones() -> None:
    fault = errors.fault_of(errors.MethodNotAllowed({"POST", "GET"}))
    assert fault.status == 405
    assert fault.headers == ((b"allow", b"GET, POST"),)


def test_an_unexpected_error_shows_an_id_and_not_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        fault = errors.unexpected(ValueError("password=hunter2"), "req_1")
    assert fault.status == 500
    assert "hunter2" not in fault.message
    error_id = next(word for word in fault.message.rstrip(".").split() if word.startswith("err_"))
    assert error_id in caplog.text
    assert "req_1" in caplog.text
    assert "hunter2" in caplog.text


def test_the_openai_dialect_words_an_unknown_model_as_openai_does() -> None:
    fault = errors.fault_of(NotFound("no such model", param="model"))
    answer = openai.render_fault(fault, "req_1")
    assert answer.status == 404
    assert msgspec.json.decode(answer.body) == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(
    ("error", "type_", "code"),
    [
        (LaneFull("x"), "rate_limit_error", "rate_limit_exceeded"),
        (TooLong("x"), "invalid_request_error", "context_length_exceeded"),
        (Unavailable("x"), "server_error", "unavailable"),
        (InvalidInput("x"), "invalid_request_error", "invalid_input"),
    ],
)
def test_the_openai_dialect_has_a_type_and_a_code_for_each(
    error: ForebayError, type_: str, code: str
) -> None:
    body = msgspec.json.decode(openai.render_fault(errors.fault_of(error), "r").body)
    assert (body["error"]["type"], body["error"]["code"]) == (type_, code)


def test_the_predictions_api_answers_with_problems() -> None:
    fault = errors.fault_of(InvalidInput("input.text must not be empty.", param="input.text"))
    answer = replicate.render_fault(fault, "req_7")
    assert answer.status == 422
    assert answer.content_type == (b"content-type", b"application/problem+json")
    assert msgspec.json.decode(answer.body) == {
        "type": "urn:forebay:problem:invalid_input",
        "title": "The input is not valid",
        "status": 422,
        "detail": "input.text must not be empty.",
        "instance": "urn:forebay:request:req_7",
        "param": "input.text",
    }


def test_a_body_that_is_not_json_stays_400_in_the_predictions_api() -> None:
    fault = errors.fault_of(errors.MalformedBody("The body is not JSON."))
    assert replicate.render_fault(fault, "r").status == 400
