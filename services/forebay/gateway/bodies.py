"""JSON bodies: decoding them straight into typed structs, and saying what is wrong with one."""

import re
from typing import Any, Final, TypeVar

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.validation import explain
from forebay.gateway.errors import MalformedBody

T = TypeVar("T")

MAX_DEPTH: Final = 128
"""Deepest nesting of a value that is kept as it came: whoever reads it back must not overflow."""

_whole = msgspec.json.Decoder(msgspec.Raw)

_LONE_HALF = re.compile(
    # Half of a pair: `\ud83d` where no `\udc00` to `\udfff` follows. What ends right there is
    # left to be called truncated.
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?:[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])"
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, within: str = "") -> T:
    """Decode JSON.

    Args:
        decoder: of the type that is expected.
        body: the JSON.
        within: the field that holds it, where it is a part of a body.

    Raises:
        MalformedBody: it is not JSON.
        InvalidInput: it is JSON of another shape; `param` names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if _nests_too_deeply(body):
            raise _too_deep() from None
        raise explain(str(error), within=within) from None
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise MalformedBody("The body is not JSON: it is not UTF-8.") from None
    except ValueError as error:
        if _has_lone_surrogate(str(error), body):
            raise MalformedBody(
                "The body holds an unpaired surrogate (half of a `\\ud83d\\ude00`), which is no "
                "valid text: send both halves, or the character itself as UTF-8."
            ) from None
        raise MalformedBody(f"The body is not JSON: {error}.") from None


def _nests_too_deeply(body: bytes | msgspec.Raw) -> bool:
    """Whether a body is of the wrong shape because it is one of nesting without end."""
    try:
        _whole.decode(body)  # looks through all of it, and makes nothing of it
    except RecursionError:
        return True
    except ValueError:
        return False
    return False


def _too_deep() -> MalformedBody:
    return MalformedBody(
        f"The body nests too deeply: {MAX_DEPTH} levels are the most that any input here needs."
    )


def _has_lone_surrogate(error: str, body: bytes | msgspec.Raw) -> bool:
    """Whether this is what an error is about: msgspec tells some of them as truncated."""
    if error != "Input data was truncated":
        return "surrogate" in error
    text = bytes(body)
    match = _LONE_HALF.search(text)
    if match is None:
        return False
    # After an odd number of backslashes it is no escape but a text about one.
    before = text[: match.start()]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def check_depth(value: Any, *, param: str) -> None:
    """Refuse a value that nests more deeply than `MAX_DEPTH`.

    Raises:
        InvalidInput: it does.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
        if not level:
            return
    raise InvalidInput(f"{param} nests more than {MAX_DEPTH} levels deep.", param=param)
