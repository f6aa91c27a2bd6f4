"""Bodies that came compressed: unpacked up to a bound.

Kombu unpacks a message as it comes, whatever that comes to: a kilobyte may be a gigabyte. So
channels are told to leave bodies packed, and whoever reads one says how much it may be.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from forebay.contract.errors import InvalidInput

HEADER: Final = "compression"
"""That kombu tells the kind of a packed body in."""

MOST_MEMORY: Final = 128 * 1024 * 1024
"""What lzma may ask for, bytes: its best preset needs 65 MiB, a header may say 4 GiB."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _lzma() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=MOST_MEMORY)


_KINDS: Final[dict[str, Callable[[], _Decompressor]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), _lzma),
}
"""Kinds that can be unpacked in part, by kombu's names for them."""


def unpacked(body: bytes, headers: Any, *, most: int) -> bytes:
    """A body as it was before it was packed.

    Args:
        body: as it came.
        headers: of its message, which say whether it is packed, and how.
        most: bytes that it may come to.

    Raises:
        InvalidInput: it comes to more, is broken, or of a kind that has no bound.
    """
    kind = headers.get(HEADER)
    if not kind:
        return body
    made = _KINDS.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise InvalidInput(
            f"Its body is compressed as {str(kind)[:80]!r}, which is not read: use gzip, bzip2 or "
            "lzma, or none."
        )
    decompressor = made()
    try:
        whole = decompressor.decompress(body, most + 1)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise InvalidInput(f"Its body can't be decompressed: {error}.") from error
    if len(whole) > most:
        raise InvalidInput(f"Its body comes to more than {most:,} bytes once it is decompressed.")
    if not decompressor.eof:
        raise InvalidInput("Its body can't be decompressed: its end is missing.")
    return whole


def leave_packed(channel: Any) -> None:
    """Have a channel of kombu's give bodies as they came.

    Its messages look for the header as they are made, and unpack if there is one.
    """
    plain: Any = channel.Message

    class Packed(plain):  # type: ignore[misc]
        def __init__(self, raw: Any, *args: Any, **kwargs: Any) -> None:
            told: Any = raw.get("headers") if isinstance(raw, dict) else raw.properties
            if not isinstance(raw, dict):
                told = told.get("application_headers")
            kind = told.pop(HEADER, None) if told else None
            super().__init__(raw, *args, **kwargs)
            if kind is not None:
                told[HEADER] = self.headers[HEADER] = kind

        def serializable(self) -> Any:
            """What goes back to the queue, where kombu has to put it there."""
            return {**super().serializable(), "headers": dict(self.headers)}

    channel.Message = Packed
