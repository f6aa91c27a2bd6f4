"""What a client asks for: the body, the `Prefer` header, and the input of each task as rows."""

import re
from typing import Any

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Row, Task, TextRow, ValueRow
from forebay.gateway.bodies import check_depth, decode

MIN_WAIT_S = 1.0
MAX_WAIT_S = 60.0
MIN_CANCEL_S = 1

_SECONDS = re.compile(r"0{0,8}[0-9]{1,3}", re.ASCII)
_DURATION = re.compile(r"(?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?", re.ASCII)


class CreatePrediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/predictions`.

    Attributes:
        version: `name`, `name:version`, or a version alone.
        input: by task; see `rows_of`.
        stream: not available yet; refused unless false. Likewise the webhook fields.
    """

    version: str
    input: msgspec.Raw
    stream: Any = None
    webhook: Any = None
    webhook_events_filter: Any = None


class TextInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of an embedding model.

    Attributes:
        text: one text, or texts.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    text: str | tuple[str, ...]
    truncate: bool = False


class EchoInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of an echo model: any JSON value."""

    value: msgspec.Raw


class Asked(msgspec.Struct, frozen=True):
    """What an input comes to.

    Attributes:
        rows: at least one.
        single: whether the output is that of one row rather than a list.
        truncate: cut over-long rows.
    """

    rows: tuple[Row, ...]
    single: bool
    truncate: bool = False


_create = msgspec.json.Decoder(CreatePrediction)
_text = msgspec.json.Decoder(TextInput)
_echo = msgspec.json.Decoder(EchoInput)
_any = msgspec.json.Decoder()
_objects = msgspec.json.Decoder(dict[str, Any] | tuple[dict[str, Any], ...])
_raws = msgspec.json.Decoder(tuple[msgspec.Raw, ...])


def read(body: bytes) -> CreatePrediction:
    """Read a body.

    Raises:
        InvalidInput: it is wrong, or asks for what isn't available.
    """
    request = decode(_create, body)
    if request.stream or request.webhook or request.webhook_events_filter:
        for name in ("stream", "webhook", "webhook_events_filter"):
            if getattr(request, name):
                raise InvalidInput(
                    f"{name} is not available yet: leave it out, and poll the prediction.",
                    param=name,
                )
    return request


def rows_of(spec: ModelSpec, input_json: msgspec.Raw, *, most: int) -> Asked:
    """The rows of an `input`.

    Args:
        spec: whose task says what an input looks like.
        input_json: the input as it came.
        most: rows in one request.

    Raises:
        InvalidInput: it is not what the task takes; `param` names the field.
    """
    match spec.task:
        case Task.EMBEDDING:
            given = decode(_text, input_json, within="input")
            return Asked(_texts(given.text, most), isinstance(given.text, str), given.truncate)
        case Task.ECHO:
            value = decode(_echo, input_json, within="input").value
            # A value that is kept as it came must be one that can be read back.
            check_depth(decode(_any, value, within="input.value"), param="input.value")
            return Asked((ValueRow(bytes(value)),), single=True)
        case Task.PYTHON:
            return _rows_as_they_came(input_json, most)


def wait_of(prefer: bytes) -> float | None:
    """How long the client waits, in seconds; None if it doesn't.

    Args:
        prefer: the `Prefer` header (RFC 7240): `wait`, or `wait=n` with n from 1 to 60.

    Raises:
        InvalidInput: n is something else.
    """
    if prefer == b"wait":
        return MAX_WAIT_S
    for preference in prefer.decode("latin-1").split(","):
        name, given, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        if not given:
            return MAX_WAIT_S
        text = value.strip().strip('"')
        if _SECONDS.fullmatch(text) and MIN_WAIT_S <= int(text) <= MAX_WAIT_S:
            return float(text)
        raise InvalidInput("Prefer: wait takes a number of seconds from 1 to 60.", param="Prefer")
    return None


def cancel_after_of(header: bytes) -> float | None:
    """When the client wants the prediction canceled, in seconds from now; None if it doesn't say.

    Args:
        header: `Cancel-After`: a duration such as `90s`, `5m` or `1h30m`, or a number of seconds.

    Raises:
        InvalidInput: it is something else, or under a second.
    """
    text = header.decode("latin-1").strip().lower()
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is not None:
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = 3_600 * hours + 60 * minutes + seconds
        if total >= MIN_CANCEL_S:
            return float(total)
    raise InvalidInput(
        "Cancel-After takes a duration of a second or more: 90s, 5m, 1h30m, or just seconds.",
        param="Cancel-After",
    )


def _rows_as_they_came(input_json: msgspec.Raw, most: int) -> Asked:
    """A python model's rows: one object, or a list of them. The worker knows what is in one."""
    given = decode(_objects, input_json, within="input")
    check_depth(given if isinstance(given, dict) else list(given), param="input")
    if isinstance(given, dict):
        return Asked((ValueRow(bytes(input_json)),), single=True)
    _check_count(len(given), most, "input")
    rows = tuple(ValueRow(bytes(row)) for row in decode(_raws, input_json, within="input"))
    return Asked(rows, single=False)


def _texts(given: str | tuple[str, ...], most: int) -> tuple[Row, ...]:
    if isinstance(given, str):
        if not given:
            raise _empty("input.text")
        return (TextRow(given),)
    _check_count(len(given), most, "input.text")
    for index, text in enumerate(given):
        if not text:
            raise _empty(f"input.text[{index}]")
    return tuple([TextRow(text) for text in given])


def _check_count(count: int, most: int, where: str) -> None:
    if not count:
        raise _empty(where)
    if count > most:
        raise InvalidInput(
            f"{where} has {count:,} items; one request takes {most:,} at most.", param=where
        )


def _empty(where: str) -> InvalidInput:
    return InvalidInput(f"{where} must not be empty.", param=where)
