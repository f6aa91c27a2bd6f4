"""`/v1/files`: sent, listed, read and deleted."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.files import FileRecord, Purpose, Terms
from forebay.gateway.dialects.openai.queries import limit_of, query_of
from forebay.gateway.downloads import Download
from forebay.gateway.filing import Filing
from forebay.gateway.http import Answer, Call, to_json

TAKEN: Final = (Purpose.BATCH, Purpose.USER_DATA, Purpose.VISION)
"""What a file may be sent for."""

MAX_LISTED: Final = 10_000
MIN_KEPT_S: Final = 3_600
MAX_KEPT_S: Final = 2_592_000

_ANCHOR = "expires_after[anchor]"
_SECONDS = "expires_after[seconds]"
_FIELDS: Final = frozenset({"purpose", _ANCHOR, _SECONDS})
_QUERY: Final = frozenset({"after", "limit", "order", "purpose"})


class FileObject(msgspec.Struct, frozen=True):
    """A file as this API shows it; times are Unix times in seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    object: str = "file"
    status: str = "processed"


class FileList(msgspec.Struct, frozen=True):
    """Files of one page."""

    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class Deleted(msgspec.Struct, frozen=True):
    """What says that a file is deleted."""

    id: str
    object: str = "file"
    deleted: bool = True


class FileEndpoints:
    """Answers about files.

    Args:
        filing: has them.
    """

    def __init__(self, filing: Filing) -> None:
        self._filing = filing

    async def create(self, call: Call) -> Answer:
        """Keep a file.

        Raises:
            ForebayError: by kind, why not.
        """
        return Answer(to_json(shown(await self._filing.take(call, field="file", terms=terms_of))))

    async def list(self, call: Call) -> Answer:
        """Files, the newest first unless `order` says otherwise.

        Raises:
            InvalidInput: a parameter is wrong.
            Unavailable: the store is out of reach.
        """
        query = query_of(call, _QUERY)
        purpose = query.get("purpose")
        page = await self._filing.page(
            limit=limit_of(query, usual=MAX_LISTED, most=MAX_LISTED),
            after=query.get("after"),
            newest_first=_newest_first(query.get("order", "desc")),
            purpose=None if purpose is None else purpose_of(purpose, tuple(Purpose)),
        )
        data = [shown(file) for file in page.files]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return Answer(to_json(FileList(data, first, last, page.more)))

    async def get(self, call: Call) -> Answer:
        """Show one.

        Raises:
            NotFound: there is none.
            Unavailable: the store is out of reach.
        """
        return Answer(to_json(shown(await self._filing.get(call.path_param("id")))))

    async def delete(self, call: Call) -> Answer:
        """Delete one.

        Raises:
            NotFound: there is none.
            InvalidInput: it is in use.
            Unavailable: the store is out of reach.
        """
        file_id = call.path_param("id")
        await self._filing.delete(file_id)
        return Answer(to_json(Deleted(file_id)))

    async def content(self, call: Call) -> Download:
        """What is in one.

        Raises:
            NotFound: there is none.
            RangeNotThere: it has no such bytes.
            Unavailable: the store is out of reach.
        """
        return await self._filing.content(call, call.path_param("id"))


def shown(file: FileRecord) -> FileObject:
    """A file as this API shows it."""
    return FileObject(
        file.id,
        file.bytes,
        int(file.created_at),
        math.ceil(file.expires_at),
        file.filename,
        file.purpose,
    )


def terms_of(fields: Mapping[str, str], filename: str, media_type: str) -> Terms:
    """A file's terms, of the form that it came in.

    Raises:
        InvalidInput: a field is missing, wrong or unknown.
    """
    for name in fields:
        if name not in _FIELDS:
            raise InvalidInput(
                f"{name[:80]!r} is no field of this form: it takes file, purpose, {_ANCHOR} and "
                f"{_SECONDS}.",
                param=name[:80],
            )
    if "purpose" not in fields:
        raise InvalidInput("The form must say the file's purpose.", param="purpose")
    return Terms(
        filename=filename,
        purpose=purpose_of(fields["purpose"]),
        media_type=media_type,
        expires_after_s=_expires_after(fields),
    )


def purpose_of(text: str, taken: tuple[Purpose, ...] = TAKEN) -> Purpose:
    """What a client says that files are for.

    Args:
        text: as it says so.
        taken: what may be said.

    Raises:
        InvalidInput: there are no such files.
    """
    if text not in taken:
        raise InvalidInput(
            f"There are no files here for {text[:80]!r}: use {', '.join(taken)}.",
            param="purpose",
        )
    return Purpose(text)


def _expires_after(fields: Mapping[str, str]) -> float | None:
    if _ANCHOR not in fields and _SECONDS not in fields:
        return None
    if fields.get(_ANCHOR, "created_at") != "created_at":
        raise InvalidInput("A file expires after its created_at.", param=_ANCHOR)
    text = fields.get(_SECONDS, "")
    if text.isascii() and text.isdecimal() and MIN_KEPT_S <= int(text[:9]) <= MAX_KEPT_S:
        return float(text[:9])
    raise InvalidInput(
        f"A file expires after {MIN_KEPT_S:,} to {MAX_KEPT_S:,} seconds.", param=_SECONDS
    )


def _newest_first(order: str) -> bool:
    if order not in ("asc", "desc"):
        raise InvalidInput("order is asc or desc.", param="order")
    return order == "desc"
