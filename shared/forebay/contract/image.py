"""How an image becomes the tensor that a graph takes: in `models.toml`, and in a manifest.

decode ─▶ turn upright ─▶ resize (`fit`) ─▶ cut out the middle ─▶ rescale ─▶ normalise ─▶ lay out
"""

import math
from enum import StrEnum

import msgspec

from forebay.contract.rows import Function

MAX_SIDE = 4_096
"""Longest side of what a graph gets, pixels."""


class Fit(StrEnum):
    """How an image is brought to size.

    `stretch` takes no heed of its proportions; `shortest` keeps them, and gives the shorter edge a
    length; `height` keeps them too, up to the width, and fills the right with zeros, as recognisers
    of text lines want it.
    """

    STRETCH = "stretch"
    SHORTEST = "shortest"
    HEIGHT = "height"


class Resample(StrEnum):
    """The filter of a resize, as Pillow names it."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Channels(StrEnum):
    """Which channels a pixel has, in their order."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"

    @property
    def number(self) -> int:
        """How many these are."""
        return 1 if self is Channels.GRAY else 3


class Layout(StrEnum):
    """The order of a tensor's axes: rows, channels, height and width."""

    NCHW = "nchw"
    NHWC = "nhwc"


class ImageForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of an image before the graph sees it.

    Attributes:
        height: pixels of what the graph gets.
        width: likewise.
        fit: how an image is brought to size: `stretch`, `shortest` or `height`.
        resize: size before the middle of `height` by `width` is cut out, if that is another:
            `[height, width]` for `stretch`, `[length]` of the shorter edge for `shortest`.
        resample: the filter of the resize, as Pillow names it.
        antialias: false leaves out what a filter does against aliasing when it makes an image
            smaller, as OpenCV does; for `nearest`, `bilinear` and `bicubic`.
        rescale: factor of each value 0..255.
        mean: taken off each channel after that, in the order of `channels`; empty takes off none.
        std: each channel is divided by this then; empty divides by none.
        channels: `rgb`, `bgr` or `gray`.
        layout: order of the tensor's axes, `nchw` or `nhwc`.
        on_white: makes white of the one colour that a palette may call transparent. What is half
            transparent is never mixed with anything, here as in transformers.
    """

    height: int = 224
    width: int = 224
    fit: Fit = Fit.STRETCH
    resize: tuple[int, ...] = ()
    resample: Resample = Resample.BILINEAR
    antialias: bool = True
    rescale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Channels = Channels.RGB
    layout: Layout = Layout.NCHW
    on_white: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the tensor that an image becomes, without the axis of rows."""
        number = self.channels.number
        if self.layout is Layout.NCHW:
            return number, self.height, self.width
        return self.height, self.width, number

    def wrong(self) -> tuple[str, str] | None:
        """The field that is out of range, and the rule it breaks; None if all is well."""
        sides = (self.height, self.width, *self.resize)
        needed = {Fit.STRETCH: (0, 2), Fit.SHORTEST: (0, 1), Fit.HEIGHT: (0,)}[self.fit]
        plain = (Resample.NEAREST, Resample.BILINEAR, Resample.BICUBIC)
        per_channel = (0, self.channels.number)
        for field, ok, rule in (
            ("height", 1 <= self.height <= MAX_SIDE, f"from 1 to {MAX_SIDE:,}"),
            ("width", 1 <= self.width <= MAX_SIDE, f"from 1 to {MAX_SIDE:,}"),
            (
                "resize",
                len(self.resize) in needed and all(1 <= side <= MAX_SIDE for side in sides),
                f"of {' or '.join(map(str, needed))} lengths from 1 to {MAX_SIDE:,} for the fit "
                f"{self.fit.value!r}",
            ),
            (
                "antialias",
                self.antialias or self.resample in plain,
                f"true for the filter {self.resample.value!r}",
            ),
            ("rescale", math.isfinite(self.rescale) and self.rescale != 0, "finite, and not 0"),
            (
                "mean",
                len(self.mean) in per_channel and all(map(math.isfinite, self.mean)),
                f"a number for each of {self.channels.number} channels",
            ),
            (
                "std",
                len(self.std) in per_channel and all(s and math.isfinite(s) for s in self.std),
                f"a number other than 0 for each of {self.channels.number} channels",
            ),
        ):
            if not ok:
                return field, rule
        return None


class ImageTable(ImageForm, frozen=True, forbid_unknown_fields=True):
    """A `[models.NAME.image]` table: how a graph from an ONNX file is fed, and what it tells.

    Attributes:
        labels: of the scores, in their order.
        function: makes scores of what the graph gives: `softmax`, `sigmoid`, or `none` where it
            gives scores already.
    """

    labels: tuple[str, ...] = ()
    function: Function = Function.SOFTMAX

    @property
    def form(self) -> ImageForm:
        """What becomes of an image, without what the scores stand for."""
        fields = ImageForm.__struct_fields__
        return ImageForm(**{field: getattr(self, field) for field in fields})
