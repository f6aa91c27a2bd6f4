"""The parcel: a file that a client sends in parts, and OpenAI's clients call an upload.

pending ──▶ completed: its file is there
└─────────▶ cancelled | expired: its parts are gone
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from forebay.contract.files import Terms

PARCEL_ID: Final = re.compile(r"upload_([0-9a-f]{32})")
"""An id; its digits are those of the file that will be made."""

PART_ID: Final = re.compile(r"part_([0-9a-f]{16})")

LIFE_S: Final = 3_600.0
"""So long after it was begun a parcel has to be complete, seconds."""

MOST_PART_BYTES: Final = 1 << 26
"""Size of one part."""


class ParcelStatus(StrEnum):
    """Where a parcel is in its life."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Parcel(msgspec.Struct, frozen=True):
    """A parcel, as it stands.

    Attributes:
        id: see `PARCEL_ID`.
        bytes: size of the file that is to be made.
        terms: what is said of that.
        created_at: Unix time in seconds.
        status: see the module docstring.
    """

    id: str
    bytes: int
    terms: Terms
    created_at: float
    status: ParcelStatus = ParcelStatus.PENDING

    @property
    def expires_at(self) -> float:
        """When it can no longer be completed, Unix time in seconds."""
        return self.created_at + LIFE_S

    @property
    def file_id(self) -> str:
        """The id that its file has, or will have."""
        return f"file-{self.id.removeprefix('upload_')}"


class Part(msgspec.Struct, frozen=True):
    """A part of a parcel that is kept.

    Attributes:
        id: see `PART_ID`.
        parcel_id: whose it is.
        created_at: Unix time in seconds.
    """

    id: str
    parcel_id: str
    created_at: float
