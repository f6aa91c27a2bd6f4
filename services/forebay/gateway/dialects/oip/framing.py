"""Bodies of `infer`: JSON, and behind it, where tensors travel as they are, binary data.

    Content-Encoding                   gzip or deflate, of the whole body
    Inference-Header-Content-Length    where the JSON ends, if binary data follow
    parameters.binary_data_size        how many of them are a tensor's, in the tensors' order

Source: Triton's binary tensor data extension.
"""

import zlib
from typing import Final

from forebay.contract.errors import InvalidInput
from forebay.gateway.dialects.oip.faults import UnknownEncoding
from forebay.gateway.errors import MalformedBody, PayloadTooLarge

HEADER_LENGTH: Final = b"inference-header-content-length"

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_WINDOWS: Final = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}


def decompress(body: bytes, encoding: bytes, *, limit: int) -> bytes:
    """The body as it was before it was compressed.

    Args:
        body: as it came.
        encoding: `Content-Encoding`; empty for none.
        limit: largest result, bytes.

    Raises:
        UnknownEncoding: it is compressed in another way.
        PayloadTooLarge: the result would be larger than the limit.
        MalformedBody: it is not what the encoding says.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    window = _WINDOWS.get(encoding)
    if window is None:
        raise UnknownEncoding("Content-Encoding takes gzip or deflate, or is left out.")
    inflate = zlib.decompressobj(window)
    try:
        whole = inflate.decompress(body, limit + 1)
    except zlib.error:
        whole = None
    if whole is not None and len(whole) > limit:
        raise PayloadTooLarge(limit)
    if whole is None or not inflate.eof or inflate.unused_data:
        raise MalformedBody(f"The body is not what its Content-Encoding says: {encoding.decode()}.")
    return whole


def split(body: bytes, header_length: bytes) -> tuple[bytes, memoryview]:
    """The JSON of a body, and the binary data behind it.

    Args:
        body: all of it.
        header_length: `Inference-Header-Content-Length`; empty if all of the body is JSON.

    Raises:
        InvalidInput: it is no length, or more than the body has.
    """
    if not header_length:
        return body, memoryview(b"")
    # As a number it could be any length at all; bodies are shorter than that.
    length = int(header_length) if header_length.isdigit() and len(header_length) < 16 else None
    if length is None or length > len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length must be the length of the JSON, at most the body's "
            f"{len(body):,} bytes.",
            param="Inference-Header-Content-Length",
        )
    return body[:length], memoryview(body)[length:]


class Binary:
    """The binary data of a request, handed out in the order of its tensors.

    Args:
        data: all of them.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, *, param: str) -> memoryview:
        """The next tensor's.

        Args:
            size: in bytes.
            param: the tensor's name.

        Raises:
            InvalidInput: fewer are left.
        """
        left = len(self._data) - self._at
        if size > left:
            raise InvalidInput(
                f"{param}: binary_data_size is {size:,} bytes, and {left:,} are left behind the "
                "JSON. Inference-Header-Content-Length says where it ends.",
                param=param,
            )
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def finish(self) -> None:
        """Make sure that nothing is left.

        Raises:
            InvalidInput: something is.
        """
        left = len(self._data) - self._at
        if left:
            raise InvalidInput(
                f"{left:,} bytes of binary data are left over: the tensors' binary_data_size must "
                "add up to what follows the JSON."
            )
