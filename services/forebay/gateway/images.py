"""Images in JSON: a `data:` URL, or base64 alone."""

import binascii

from forebay.contract.errors import InvalidInput

_DATA = "data:"
_BASE64 = ";base64"
_WHITE = str.maketrans("", "", " \t\r\n")


def bytes_of(text: str, *, param: str) -> bytes:
    """An image file's bytes; what is in them is for the worker to find out.

    Args:
        text: a `data:` URL, or base64.
        param: the field that holds it.

    Raises:
        InvalidInput: it is neither.
    """
    if text[:8].lower().startswith(("http://", "https://")):
        raise InvalidInput(
            f"{param} is an address, and images are not fetched from there yet: send a data: URL, "
            "or base64.",
            param=param,
        )
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
