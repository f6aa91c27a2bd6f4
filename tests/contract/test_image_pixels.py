"""Images become what transformers' image processors make of them, to the bit.

Without a model: each kind of processor that a build takes, on images of every oddness.
"""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from forebay.build.image_source import form_of
from forebay.contract.errors import BuildFailed, ErrorKind, InvalidInput
from forebay.contract.image import Channels, Fit, ImageForm, Layout, Resample
from forebay.inference.images.decode import MAX_PIXELS, decode
from forebay.inference.images.pixels import pixels_of
from tests.fixtures.pictures import ODD, encoded, picture, text_line

WHERE = Path("preprocessor_config.json")
SQUARE = {"height": 40, "width": 40}
CROP = {"crop_size": {"height": 36, "width": 33}}
EDGE = {"size": {"shortest_edge": 41}}

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {"size": SQUARE}),
    "vit, nearest": ("ViT", {"size": SQUARE, "resample": 0}),
    "vit, lanczos, not normalised": (
        "ViT",
        {"size": {"height": 30, "width": 47}, "resample": 1, "do_normalize": False},
    ),
    "vit, not rescaled": ("ViT", {"size": SQUARE, "do_rescale": False}),
    "deit, cut": ("DeiT", {"size": {"height": 43, "width": 39}, **CROP}),
    "deit, cut from less than it takes": (
        "DeiT",
        {"size": {"height": 30, "width": 29}, "crop_size": {"height": 37, "width": 34}},
    ),
    "beit": ("Beit", {"size": SQUARE}),
    "bit": ("Bit", {**EDGE, **CROP}),
    "clip": ("CLIP", {**EDGE, **CROP}),
    "siglip": ("Siglip", {"size": SQUARE}),
    "convnext, cut": ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.875}),
    "convnext, warped": ("ConvNext", {"size": {"shortest_edge": 384}}),
    "mobilenet 1": ("MobileNetV1", {**EDGE, **CROP}),
    "mobilenet 2": ("MobileNetV2", {**EDGE, **CROP}),
    "mobilevit": ("MobileViT", {**EDGE, **CROP}),
    "levit": ("Levit", {"size": {"shortest_edge": 36}, **CROP}),
}
FILES = {name: make() for name, make in ODD.items()}


def processor_of(name: str) -> Any:
    import transformers

    kind, options = PROCESSORS[name]
    return getattr(transformers, f"{kind}ImageProcessorPil")(**options)


def loaded_by_transformers(data: bytes) -> Any:
    from transformers.image_utils import load_image

    return load_image(base64.b64encode(data).decode())


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_image_processor(name: str) -> None:
    processor = processor_of(name)
    form = form_of(processor, path=WHERE)
    for odd, data in FILES.items():
        expected = processor(images=loaded_by_transformers(data), return_tensors="np")
        got = pixels_of(decode(data), form)
        assert got.shape == form.shape
        assert np.array_equal(expected["pixel_values"][0], got), (name, odd)


@pytest.mark.parametrize("odd", FILES)
def test_images_are_decoded_and_turned_as_the_pipeline_does(odd: str) -> None:
    expected, got = loaded_by_transformers(FILES[odd]), decode(FILES[odd])
    assert (got.mode, got.size) == ("RGB", expected.size)
    assert np.array_equal(np.asarray(expected), np.asarray(got))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("Beit", {"do_reduce_labels": True}, "`do_reduce_labels` True"),
        ("ViT", {"do_resize": False}, "`do_resize` False"),
        ("ViT", {"do_pad": True}, "`do_pad` True"),
        ("ViT", {"size": {"shortest_edge": 30, "longest_edge": 90}}, "`size` {"),
        ("Bit", {"do_center_crop": False}, "no `do_center_crop`"),
        ("ConvNext", {"do_center_crop": True, "crop_size": SQUARE}, "`do_center_crop` True"),
        ("MobileViT", {"do_normalize": True}, "`do_flip_channel_order with do_normalize`"),
        (
            "EfficientNet",
            {},
            "'EfficientNetImageProcessor', which isn't supported; these",
        ),
    ],
)
def test_an_option_that_would_be_left_out_is_refused_by_name(
    name: str, options: dict[str, Any], told: str
) -> None:
    import transformers

    processor = getattr(transformers, f"{name}ImageProcessorPil")(**options)
    with pytest.raises(BuildFailed) as caught:
        form_of(processor, path=WHERE)
    assert caught.value.message.startswith(f"{WHERE} has ")
    assert told in caught.value.message


@pytest.mark.parametrize("size", [(97, 31), (400, 48), (20, 60), (1, 1)])
def test_without_antialias_a_resize_is_that_of_opencv(size: tuple[int, int]) -> None:
    image = picture(*size)
    form = ImageForm(height=48, width=120, antialias=False, rescale=1, channels=Channels.BGR)
    got = pixels_of(image, form)
    expected = cv2.resize(np.asarray(image)[..., ::-1], (120, 48)).transpose(2, 0, 1)
    assert np.abs(got - expected).max() <= 1.0  # each rounds in its own way


def test_a_line_of_text_keeps_its_proportions_and_is_filled_up_with_zeros() -> None:
    line = text_line("lake")
    form = ImageForm(height=24, width=200, fit=Fit.HEIGHT, mean=(0.5,) * 3, std=(0.5,) * 3)
    got = pixels_of(line, form)
    width = -(-line.width * 24 // line.height)
    assert got[:, :, :width].any(axis=0).all()
    assert not got[:, :, width:].any()
    longer = pixels_of(text_line("the river feeds the lake " * 3), form)
    assert longer.any(axis=(0, 1)).all()


def test_grey_and_other_layouts() -> None:
    image = picture(20, 30)
    grey = ImageForm(height=30, width=20, channels=Channels.GRAY, rescale=1, layout=Layout.NHWC)
    got = pixels_of(image, grey, np.uint8)
    assert got.shape == (30, 20, 1)
    assert got.dtype == np.uint8
    assert np.array_equal(got[..., 0], np.asarray(image.convert("L")))
    coloured = ImageForm(height=30, width=20, rescale=1, layout=Layout.NHWC)
    assert np.array_equal(pixels_of(image, coloured), np.asarray(image))


class TestWhatIsNoImageIsRefused:
    def test_a_file_that_ends_too_soon(self) -> None:
        for name, data in FILES.items():
            if len(data) > 300:
                with pytest.raises(
                    InvalidInput, match=r"damaged, or cut short|known format"
                ) as got:
                    decode(data[: len(data) // (8 if name == "animation" else 2)])
                assert got.value.kind is ErrorKind.INVALID_INPUT, name

    @pytest.mark.parametrize(
        "data", [b"", b"GIF8", b"hello", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60), b"\xff\xd8\xff"]
    )
    def test_bytes_of_another_kind(self, data: bytes) -> None:
        with pytest.raises(InvalidInput):
            decode(data)

    @pytest.mark.parametrize("format", ["TIFF", "ICO", "PPM"])
    def test_a_format_that_is_not_taken(self, format: str) -> None:
        with pytest.raises(InvalidInput, match="known format: send PNG, JPEG, WEBP, GIF or BMP"):
            decode(encoded(picture(20, 20), format))

    @pytest.mark.parametrize(("width", "height"), [(8_000, 8_000), (12_000, 12_000), (60_000,) * 2])
    def test_one_that_claims_more_pixels_than_are_taken(self, width: int, height: int) -> None:
        with pytest.raises(InvalidInput, match="pixels, and 50,000,000 are taken") as caught:
            decode(png_that_claims(width, height))
        assert caught.value.kind is ErrorKind.TOO_LONG
        assert width * height > MAX_PIXELS

    def test_one_so_thin_that_it_would_be_enormous_once_resized(self) -> None:
        thin = Image.new("RGB", (20_000, 1))
        form = ImageForm(fit=Fit.SHORTEST, resample=Resample.NEAREST)
        with pytest.raises(InvalidInput, match=r"as 4,480,000 x 224"):
            pixels_of(thin, form)

    def test_text_that_unpacks_to_more_than_it_is_worth(self) -> None:
        bomb = zlib.compress(bytes(80_000_000))
        chunk = b"zTXtnote\0\0" + bomb
        plain = FILES["rgb"]
        data = plain[:33] + struct.pack(">I", len(chunk) - 4) + chunk
        data += struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
        with pytest.raises(InvalidInput, match="damaged"):
            decode(data)


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that say that they are a large image."""
    small = io.BytesIO(FILES["one pixel"]).read()
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
