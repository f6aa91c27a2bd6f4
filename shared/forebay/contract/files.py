"""What is known of a file that a client sent, or that a model or a batch made."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

FILE_ID: Final = re.compile(r"file-[0-9a-f]{12}[0-9a-f]{20}")
"""An id: about when the file was begun, Unix time in milliseconds, then 80 random bits."""

_OUR_PATHS: Final = re.compile(r"(?:/replicate)?/v1/files/([^/]+)(?:/content|/download)?")
"""Where the gateway shows files."""

FILE_FIELD: Final = "x-forebay-file"
"""What the schema of a field has that takes a file."""

MAX_FILENAME: Final = 255
"""Most characters of a file's name that are kept."""


class Purpose(StrEnum):
    """What a file is for."""

    BATCH = "batch"
    """The requests of a batch, one a line."""
    BATCH_OUTPUT = "batch_output"
    """What came of them; made here."""
    USER_DATA = "user_data"
    """An input of a prediction."""
    VISION = "vision"
    """An image that is one."""
    OUTPUT = "output"
    """An output of a prediction; made here."""


class FileRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a file. It never changes.

    Attributes:
        id: see `FILE_ID`.
        filename: what whoever sent it calls it: a label, and never a path.
        bytes: its size.
        purpose: what it is for.
        created_at: Unix time in seconds.
        expires_at: when it goes, Unix time in seconds.
        media_type: what is in it, as whoever sent it says.
        sha256: of its content, in hexadecimal.
        metadata: whatever else was sent with it.
        format: of this record.
    """

    id: str
    filename: str
    bytes: int
    purpose: Purpose
    created_at: float
    expires_at: float
    media_type: str
    sha256: str
    metadata: dict[str, Any] = {}
    format: int = 1


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a file by whoever makes it; see `FileRecord`.

    Attributes:
        expires_after_s: how long it is wanted; the store's own retention is the most.
    """

    filename: str
    purpose: Purpose
    media_type: str = "application/octet-stream"
    expires_after_s: float | None = None
    metadata: dict[str, Any] = {}


class Page(msgspec.Struct, frozen=True):
    """Some of the files, and whether there are more behind them."""

    files: Sequence[FileRecord]
    more: bool


def label(filename: str) -> str:
    """A file's name as it is kept: without folders and without what can't be shown."""
    name = re.split(r"[\\/]", filename)[-1]
    return "".join(one for one in name if one.isprintable())[:MAX_FILENAME] or "file"


def id_in(named: str) -> str | None:
    """The id of a file that an input names by it or by its URL; None if it names none of ours.

    A file of ours is known by the path and the id alone: which host a client knows the gateway by,
    nobody here can know. No file elsewhere has such an id by chance.
    """
    if FILE_ID.fullmatch(named):
        return named
    if not named[:8].lower().startswith(("http://", "https://")):
        return None
    try:
        match = _OUR_PATHS.fullmatch(urlsplit(named).path)
    except ValueError:
        return None
    return match[1] if match is not None and FILE_ID.fullmatch(match[1]) else None
