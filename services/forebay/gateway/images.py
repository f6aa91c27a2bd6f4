"""Images in JSON: a `data:` URL, base64 alone, or an address where it was fetched from."""

import binascii
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from forebay.contract.errors import InvalidInput
from forebay.gateway.fetching import is_address

NONE_FETCHED: Final[Mapping[str, bytes]] = MappingProxyType({})

_DATA = "data:"
_BASE64 = ";base64"
_WHITE = str.maketrans("", "", " \t\r\n")


def bytes_of(text: str, *, param: str, fetched: Mapping[str, bytes] = NONE_FETCHED) -> bytes:
    """An image file's bytes; what is in them is for the worker to find out.

    Args:
        text: a `data:` URL, base64, or an address.
        param: the field that holds it.
        fetched: what was found at addresses, by the field that holds each.

    Raises:
        InvalidInput: it is none of these, empty, or an address where none are taken.
    """
    if is_address(text):
        if param not in fetched:
            raise InvalidInput(
                f"{param} is an address; here an image is a data: URL, base64, or its bytes.",
                param=param,
            )
        if not fetched[param]:
            raise InvalidInput(f"{param} is an address where there is nothing.", param=param)
        return fetched[param]
    encoded = text
    if text[: len(_DATA)].lower() == _DATA:
        head, comma, encoded = text.partition(",")
        if not comma or not head.lower().endswith(_BASE64):
            raise InvalidInput(
                f"{param} must be base64 where it is a data: URL: data:image/png;base64,….",
                param=param,
            )
    try:
        data = binascii.a2b_base64(encoded.translate(_WHITE), strict_mode=True)
    except ValueError:
        raise InvalidInput(f"{param} is neither a data: URL nor base64.", param=param) from None
    if not data:
        raise InvalidInput(f"{param} must not be empty.", param=param)
    return data
