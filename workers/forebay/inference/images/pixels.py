"""An image to what a graph takes: resized, cut, rescaled, normalised and laid out.

The arithmetic, down to where float64 becomes float32, is that of transformers' image processors
where Pillow does their work (`image_transforms`), so that values are the same to the bit.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from forebay.contract.errors import TooLong
from forebay.contract.image import Channels, Fit, ImageForm, Layout, Resample
from forebay.inference.images.decode import MAX_PIXELS

Pixels = npt.NDArray[Any]
"""`[height, width, channels]` until it is laid out."""

_FILTERS: Final = {
    Resample.NEAREST: Image.Resampling.NEAREST,
    Resample.BOX: Image.Resampling.BOX,
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.HAMMING: Image.Resampling.HAMMING,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
    Resample.LANCZOS: Image.Resampling.LANCZOS,
}


def pixels_of(image: Image.Image, form: ImageForm, dtype: npt.DTypeLike = np.float32) -> Pixels:
    """What the graph takes of an image, of the form's shape.

    Args:
        image: upright, in RGB.
        form: what is to become of it.
        dtype: of the graph's input.

    Raises:
        TooLong: it is so long and thin that it would be enormous once resized.
    """
    if form.on_white and image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if form.channels is Channels.GRAY:
        image = image.convert("L")
    resized = np.asarray(_resized(image, form))
    values = resized.reshape(*resized.shape[:2], form.channels.number)
    if form.fit is not Fit.HEIGHT:
        values = _middle(values, form.height, form.width)
    if form.channels is Channels.BGR:
        values = values[..., ::-1]
    values = _normalised(values, form)
    if values.shape[1] < form.width:
        values = np.pad(values, ((0, 0), (0, form.width - values.shape[1]), (0, 0)))
    if form.layout is Layout.NCHW:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype)


def _resized(image: Image.Image, form: ImageForm) -> Image.Image:
    height, width = _size(image.height, image.width, form)
    if height * width > MAX_PIXELS:
        raise TooLong(
            f"This image of {image.width:,} x {image.height:,} pixels is so long and thin that the "
            f"model would see it as {width:,} x {height:,}, and {MAX_PIXELS:,} pixels are taken at "
            "most: cut it into pieces."
        )
    if form.antialias:
        return image.resize((width, height), _FILTERS[form.resample])
    whole = (0, 0, image.width, image.height)
    return image.transform(
        (width, height), Image.Transform.EXTENT, whole, resample=_PLAIN[form.resample]
    )


_PLAIN: Final = {
    Resample.NEAREST: Image.Resampling.NEAREST,
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
}
"""Filters that Pillow can take at one point, without regard to how much smaller the image gets."""


def _size(height: int, width: int, form: ImageForm) -> tuple[int, int]:
    """Height and width after the resize."""
    match form.fit:
        case Fit.STRETCH:
            return (form.resize[0], form.resize[1]) if form.resize else (form.height, form.width)
        case Fit.SHORTEST:
            short = form.resize[0] if form.resize else min(form.height, form.width)
            long = int(short * max(height, width) / min(height, width))
            return (long, short) if width <= height else (short, long)
        case Fit.HEIGHT:
            return form.height, min(math.ceil(form.height * (width / height)), form.width)


def _middle(values: Pixels, height: int, width: int) -> Pixels:
    """Cut the middle out; what is too small for that gets a margin of zeros.

    Which side gets the odd pixel is as in transformers' `center_crop`.
    """
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return values[top : top + height, left : left + width]
    whole = (max(height, values.shape[0]), max(width, values.shape[1]))
    above = math.ceil((whole[0] - values.shape[0]) / 2)
    before = math.ceil((whole[1] - values.shape[1]) / 2)
    larger = np.zeros((*whole, values.shape[2]), values.dtype)
    larger[above : above + values.shape[0], before : before + values.shape[1]] = values
    top, left = top + above, left + before
    return larger[max(0, top) : top + height, max(0, left) : left + width]


def _normalised(values: Pixels, form: ImageForm) -> Pixels:
    if form.rescale != 1:
        values = (values.astype(np.float64) * form.rescale).astype(np.float32)
    if not form.mean and not form.std:
        return values
    values = values.astype(np.float32)
    if form.mean:
        values = values - np.asarray(form.mean, np.float32)
    return values / np.asarray(form.std, np.float32) if form.std else values
