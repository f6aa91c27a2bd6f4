"""`/v1/uploads`: a file sent in parts, for what one connection is too short-lived or too slow.

Here such a file is a parcel, as `uploads` of the gateway are forms on their way.
"""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from forebay.contract.files import FileRecord, Purpose, Terms, label
from forebay.contract.parcels import Parcel, ParcelStatus
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.openai.batches import ExpiresAfter
from forebay.gateway.dialects.openai.files import FileObject, purpose_of, shown
from forebay.gateway.filing import Filing, media_type_of
from forebay.gateway.http import Answer, Call, to_json


class CreateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/uploads`, as OpenAI documents it."""

    bytes: Annotated[int, Meta(ge=1)]
    filename: Annotated[str, Meta(min_length=1)]
    mime_type: str
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/uploads/{id}/complete`, likewise."""

    part_ids: Annotated[list[str], Meta(min_length=1)]
    md5: str | None = None


class UploadObject(msgspec.Struct, frozen=True):
    """A parcel as this API shows it; times are Unix times in seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: ParcelStatus
    file: FileObject | None
    object: str = "upload"


class PartObject(msgspec.Struct, frozen=True):
    """A part of one."""

    id: str
    created_at: int
    upload_id: str
    object: str = "upload.part"


_create = msgspec.json.Decoder(CreateRequest)
_complete = msgspec.json.Decoder(CompleteRequest)


class UploadEndpoints:
    """Takes files that come in parts.

    Args:
        filing: has them.
    """

    def __init__(self, filing: Filing) -> None:
        self._parcels = filing.parcels

    async def create(self, call: Call) -> Answer:
        """Begin one.

        Raises:
            InvalidInput: the body is wrong, or the file too large.
            Unavailable: the store is out of reach.
        """
        asked = decode(_create, call.body)
        after = asked.expires_after
        terms = Terms(
            filename=label(asked.filename),
            purpose=purpose_of(asked.purpose),
            media_type=media_type_of(asked.mime_type, asked.filename),
            expires_after_s=None if after is None else float(after.seconds),
        )
        return _answer(await self._parcels.begin(asked.bytes, terms))

    async def part(self, call: Call) -> Answer:
        """Keep a part.

        Raises:
            ForebayError: by kind, why not.
        """
        part = await self._parcels.take(call, call.path_param("id"))
        return Answer(to_json(PartObject(part.id, int(part.created_at), part.parcel_id)))

    async def complete(self, call: Call) -> Answer:
        """Make the file.

        Raises:
            NotFound: there is no such upload.
            InvalidInput: it takes no more, or the parts are not the file that was meant.
            Unavailable: the store is out of reach.
        """
        asked = decode(_complete, call.body)
        return _answer(
            *await self._parcels.complete(call.path_param("id"), asked.part_ids, md5=asked.md5)
        )

    async def cancel(self, call: Call) -> Answer:
        """Give one up.

        Raises:
            NotFound: there is no such upload.
            InvalidInput: it is completed, or its time is over.
            Unavailable: the store is out of reach.
        """
        return _answer(await self._parcels.cancel(call.path_param("id")))


def _answer(parcel: Parcel, file: FileRecord | None = None) -> Answer:
    return Answer(
        to_json(
            UploadObject(
                parcel.id,
                parcel.bytes,
                int(parcel.created_at),
                math.ceil(parcel.expires_at),
                parcel.terms.filename,
                parcel.terms.purpose,
                parcel.status,
                None if file is None else shown(file),
            )
        )
    )
