"""Errors by kind, and the form in which they travel."""

import pytest

from forebay.contract import errors
from forebay.contract.errors import ErrorInfo, ErrorKind, ForebayError, InvalidInput, TooLong

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ForebayError)
]


@pytest.mark.parametrize("error", ALL)
def test_every_error_has_a_kind_of_its_own(error: type[ForebayError]) -> None:
    assert [other for other in ALL if other.kind is error.kind] == [error]


def test_an_error_travels_with_its_kind_row_and_field() -> None:
    error = TooLong("Row 3 has 300 tokens.", row=3, param="input", retry_after_s=1.0)
    assert error.info() == ErrorInfo(ErrorKind.TOO_LONG, "Row 3 has 300 tokens.", 3, "input")
    assert str(error) == "Row 3 has 300 tokens."
    assert isinstance(error, InvalidInput)


def test_every_error_is_drawn_in_the_tree() -> None:
    missing = [error.__name__ for error in ALL if error.__name__ not in (errors.__doc__ or "")]
    assert missing == []
