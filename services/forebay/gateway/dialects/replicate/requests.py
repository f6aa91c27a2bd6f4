"""What a client asks for: the body, and the headers that say how long it waits."""

import re

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.gateway.bodies import decode

MIN_WAIT_S = 1.0
MAX_WAIT_S = 60.0
MIN_CANCEL_S = 1

_SECONDS = re.compile(r"0{0,8}[0-9]{1,3}", re.ASCII)
_DURATION = re.compile(r"(?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?", re.ASCII)


class CreatePredictionOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body where the path names the model.

    Attributes:
        input: by task; see `inputs`.
        stream: keep the text as it is generated, for whoever reads `urls.stream`.
        webhook: URL that is told of the prediction.
        webhook_events_filter: of which events; of all where there is none.
    """

    input: msgspec.Raw
    stream: bool | None = None
    webhook: str | None = None
    webhook_events_filter: tuple[str, ...] | None = None


class CreatePrediction(CreatePredictionOf, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/predictions`.

    Attributes:
        version: `name`, `name:version`, either with the owner before it, or a version alone.
    """

    version: str


_create = msgspec.json.Decoder(CreatePrediction)
_create_of = msgspec.json.Decoder(CreatePredictionOf)


def read(body: bytes) -> CreatePrediction:
    """Read a body.

    Raises:
        InvalidInput: it is wrong.
    """
    return decode(_create, body)


def read_of(body: bytes) -> CreatePredictionOf:
    """Read a body where the path names the model.

    Raises:
        InvalidInput: it is wrong.
    """
    return decode(_create_of, body)


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
