"""What clients call their requests, so that they may come again: a key, or an id of their own."""

import hashlib
import re
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.prediction import PredictionId
from forebay.gateway.access import visitor

MAX_KEY: Final = 255
"""Longest Idempotency-Key."""

_OWN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Name(msgspec.Struct, frozen=True):
    """What a client calls a request.

    Attributes:
        key: with what tells kinds of names apart.
        fingerprint: of the request.
        shown: id that the client is to see instead of Forebay's own.
        claimed: who has it first is kept, and who comes again is led there. Else the prediction has
            its id of the name: nothing is asked or kept, and nobody looks whether it is the same
            request.
    """

    key: str
    fingerprint: str
    shown: str | None = None
    claimed: bool = True

    @property
    def param(self) -> str:
        """Where the client gave it."""
        return "Idempotency-Key" if self.shown is None else "id"


def derived(key: str) -> Name:
    """The name of what is known by a key elsewhere, by whoever asks again with the same only."""
    return Name(key, "", claimed=False)


def key_of(header: bytes, fingerprint: str) -> Name | None:
    """The name that an `Idempotency-Key` header gives; None if there is none.

    Raises:
        InvalidInput: it is too long, or not printable.
    """
    text = header.decode("latin-1").strip()
    if not text:
        return None
    if len(text) > MAX_KEY or not (text.isascii() and text.isprintable()):
        raise InvalidInput(
            f"Idempotency-Key takes up to {MAX_KEY} printable ASCII characters.",
            param="Idempotency-Key",
        )
    return Name(f"key:{_whose()}{text}", fingerprint)


def own_id(text: str, fingerprint: str) -> Name:
    """The name that a client gives by making an id of its own.

    Raises:
        InvalidInput: it can't be an id.
    """
    key = own_key(text)
    if key is None:
        raise InvalidInput(
            "An id is up to 128 letters, digits, '.', '_' and '-', the first a letter or digit.",
            param="id",
        )
    if _is_ours(text):
        raise InvalidInput(
            "Ids of this form are Forebay's own, and this is none that it gave: use another form.",
            param="id",
        )
    return Name(key, fingerprint, shown=text)


def fingerprint(path: str, body: bytes) -> str:
    """Tells requests apart."""
    return hashlib.sha256(b"%s\0%s" % (path.encode(), body)).hexdigest()[:32]


def _is_ours(text: str) -> bool:
    try:
        PredictionId.parse(text)
    except NotFound:
        return False
    return True


def own_key(text: str) -> str | None:
    """The key of a client's own id; None if it can't be one."""
    return f"id:{_whose()}{text}" if _OWN_ID.fullmatch(text) else None


def _whose() -> str:
    """What names of one API key's are told by from those of others."""
    owner = visitor.owner()
    return f"{owner}:" if owner else ""
