"""Files: sent by the client where an input holds one, shown, read, deleted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.files import FileRecord, Purpose, Terms
from forebay.gateway.bodies import check_depth
from forebay.gateway.dialects.replicate.paging import PageBody
from forebay.gateway.downloads import Download
from forebay.gateway.filing import Filing, media_type_of
from forebay.gateway.http import Answer, Call, to_json

PER_PAGE: Final = 100

_FIELDS: Final = frozenset({"filename", "type", "metadata"})
_metadata = msgspec.json.Decoder(dict[str, Any])


class FileBody(msgspec.Struct, frozen=True):
    """A file as this API shows it; `urls.get` may be given as an input."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: Mapping[str, str]
    metadata: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime
    urls: Mapping[str, str]


class Files:
    """Answers about files.

    Args:
        filing: has them.
        path: where they are mounted.
    """

    def __init__(self, filing: Filing, path: str) -> None:
        self._filing = filing
        self._path = path

    async def create(self, call: Call) -> Answer:
        """Keep a file.

        Raises:
            ForebayError: by kind, why not.
        """
        record = await self._filing.take(call, field="content", terms=terms_of)
        return Answer(to_json(self._shown(call, record)), 201)

    async def list(self, call: Call) -> Answer:
        """Those that clients sent, the newest first.

        Raises:
            Unavailable: the store is out of reach.
        """
        cursor = parse_qs(call.scope["query_string"].decode("latin-1")).get("cursor", [None])[-1]
        page = await self._filing.page(limit=PER_PAGE, after=cursor, purpose=Purpose.USER_DATA)
        more = None
        if page.more:
            more = f"{call.base_url}{self._path}?cursor={page.files[-1].id}"
        results = [self._shown(call, one) for one in page.files]
        return Answer(to_json(PageBody(None, more, results)))

    async def get(self, call: Call) -> Answer:
        """Show one.

        Raises:
            NotFound: there is none.
            Unavailable: the store is out of reach.
        """
        record = await self._filing.get(call.path_param("id"))
        return Answer(to_json(self._shown(call, record)))

    async def delete(self, call: Call) -> Answer:
        """Delete one.

        Raises:
            NotFound: there is none.
            InvalidInput: it is in use.
            Unavailable: the store is out of reach.
        """
        await self._filing.delete(call.path_param("id"))
        return Answer(b"", 204)

    async def content(self, call: Call) -> Download:
        """What is in one.

        Raises:
            NotFound: there is none.
            RangeNotThere: it has no such bytes.
            Unavailable: the store is out of reach.
        """
        return await self._filing.content(call, call.path_param("id"))

    def _shown(self, call: Call, file: FileRecord) -> FileBody:
        return FileBody(
            id=file.id,
            name=file.filename,
            content_type=file.media_type,
            size=file.bytes,
            etag=file.sha256,
            checksums={"sha256": file.sha256},
            metadata=file.metadata,
            created_at=datetime.fromtimestamp(file.created_at, UTC),
            expires_at=datetime.fromtimestamp(file.expires_at, UTC),
            urls={"get": f"{call.base_url}{self._path}/{file.id}"},
        )


def terms_of(fields: Mapping[str, str], filename: str, media_type: str) -> Terms:
    """A file's terms, of the form that it came in.

    Raises:
        InvalidInput: a field is wrong or unknown.
    """
    for name in fields:
        if name not in _FIELDS:
            raise InvalidInput(
                f"{name[:80]!r} is no field of this form: it takes content, "
                f"{', '.join(sorted(_FIELDS))}.",
                param=name[:80],
            )
    filename = fields.get("filename") or filename
    return Terms(
        filename=filename,
        purpose=Purpose.USER_DATA,
        media_type=media_type_of(fields.get("type") or media_type, filename),
        metadata=_metadata_of(fields.get("metadata")),
    )


def _metadata_of(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = _metadata.decode(text)
    except (ValueError, RecursionError):
        raise InvalidInput("metadata is a JSON object.", param="metadata") from None
    check_depth(found, param="metadata")
    return found
