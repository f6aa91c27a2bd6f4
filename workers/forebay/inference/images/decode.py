"""A file's bytes to an upright image in RGB, within bounds.

The size that a file claims is looked at before anything of it is unpacked, so that a few bytes
can't ask for gigabytes.
"""

import io
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from forebay.contract.errors import InvalidInput, TooLong

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that are opened; of an animation its first frame."""

MAX_PIXELS: Final = 50_000_000
"""Most pixels of an image; in RGB they are 150 MB."""


def decode(data: bytes) -> Image.Image:
    """An image in RGB, turned upright as its EXIF says.

    Raises:
        TooLong: it has more than `MAX_PIXELS`.
        InvalidInput: it is of another format, or damaged.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    except UnidentifiedImageError as error:
        raise InvalidInput(
            f"This is no image of a known format: send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        ) from error
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead to
        raise _damaged() from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(image.width, image.height)
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _damaged() from error


def _damaged() -> InvalidInput:
    return InvalidInput("This image is damaged, or cut short: send the whole file.")


def _too_large(width: int = 0, height: int = 0) -> TooLong:
    size = f"{width:,} x {height:,}" if width else "too many"
    return TooLong(
        f"This image has {size} pixels, and {MAX_PIXELS:,} are taken at most: make it smaller."
    )
