"""What is written on a page: a pipeline of three models, as `rapidocr-onnxruntime` runs them.

    page ─▶ detect ─▶ boxes ─▶ crops ─▶ turned ─▶ upright lines ─▶ recognise ─▶ texts

The boxes are those of Liao et al., Real-time Scene Text Detection with Differentiable Binarization
(arXiv:1911.08947, section 3.4), the texts by the best path of Graves et al., Connectionist Temporal
Classification (ICML 2006, section 3.2).
"""

import asyncio
import importlib.util
import math
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import pyclipper

from forebay.contract.errors import InvalidInput
from forebay.inference.steps import Label, Models

Array = npt.NDArray[Any]

SHORT_SIDE = 736
"""Pages whose shorter side has fewer pixels are enlarged for the detector."""

IN_TEXT, IS_TEXT = 0.3, 0.5
"""A pixel is in a text from this on, and a box is one whose pixels have this on average."""

UNCLIP = 1.6
"""The detector finds the inside of a line: boxes grow by this, times area by circumference."""

LINE_HEIGHT, LEAST_WIDTH = 48, 320
"""Of what the recogniser reads, in pixels."""

UPSIDE_DOWN, SAYS_SOMETHING = 0.9, 0.5
"""Scores from which a line is turned round, and told at all."""


class Page(msgspec.Struct, frozen=True):
    """A row: an image's file, in base64."""

    image: bytes


class Line(msgspec.Struct, frozen=True):
    """A line of text: its corners from the upper left clockwise, what it says, and how surely."""

    corners: list[list[float]]
    text: str
    score: float


class Ocr:
    """Reads pages."""

    def load(self) -> None:
        """Get the recogniser's letters, which its file tells; the first stands for no letter."""
        spec = importlib.util.find_spec("rapidocr_onnxruntime")
        assert spec is not None
        assert spec.origin is not None
        file = Path(spec.origin).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        told = session.get_modelmeta().custom_metadata_map["character"]
        self.letters = ["", *told.splitlines(), " "]

    async def run(self, row: Page, models: Models) -> list[Line]:
        """The lines of a page, from top to bottom."""
        page = await asyncio.to_thread(decoded, row.image)
        (found,) = await models["detect"]([{"x": await asyncio.to_thread(for_detector, page)}])
        boxes = await asyncio.to_thread(boxes_of, only(found)[0, 0], page.shape[:2])
        crops = await asyncio.to_thread(lambda: [cropped(page, box) for box in boxes])
        turns: list[Label] = await models["turned"]([as_png(crop) for crop in crops])
        upright = [
            cv2.rotate(crop, cv2.ROTATE_180)
            if turn.label == "180" and turn.score > UPSIDE_DOWN
            else crop
            for crop, turn in zip(crops, turns, strict=True)
        ]
        widest = max((crop.shape[1] / crop.shape[0] for crop in upright), default=0.0)
        read = await models["recognise"]([{"x": for_recogniser(crop, widest)} for crop in upright])
        texts = [self.text_of(only(scores)[0]) for scores in read]
        return [
            Line(box.tolist(), text, round(score, 4))
            for box, (text, score) in zip(boxes, texts, strict=True)
            if score >= SAYS_SOMETHING
        ]

    def text_of(self, scores: Array) -> tuple[str, float]:
        """The best letter of each column, those that go on and those that are none left out.

        Args:
            scores: `[columns, letters]`.
        """
        best = scores.argmax(axis=1)
        kept = (best != 0) & np.append(True, best[1:] != best[:-1])
        sure = scores.max(axis=1)[kept]
        text = "".join(self.letters[at] for at in best[kept])
        return text, float(sure.mean()) if text else 0.0


def decoded(file: bytes) -> Array:
    """A page's pixels, `[height, width, 3]`, blue first."""
    page = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    if page is None:
        raise InvalidInput("input.image is no image that can be read.", param="input.image")
    return page


def only(tensors: dict[str, Array]) -> Array:
    """The one tensor that a model gives."""
    (tensor,) = tensors.values()
    return tensor


def normalised(image: Array) -> Array:
    """Pixels from -1 to 1, `[1, 3, height, width]`."""
    return ((image.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def for_detector(page: Array) -> Array:
    """A page whose sides are multiples of 32."""
    factor = max(SHORT_SIDE / min(page.shape[:2]), 1.0)
    height, width = (max(round(int(side * factor) / 32), 1) * 32 for side in page.shape[:2])
    return normalised(cv2.resize(page, (width, height)))


def boxes_of(inside: Array, size: tuple[int, ...]) -> list[Array]:
    """Boxes of lines, from top to bottom and left to right, float32 `[4, 2]` each.

    Args:
        inside: how surely a pixel is in a text, `[height, width]`.
        size: of the page: height and width.
    """
    mask = cv2.dilate((inside > IN_TEXT).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([size[1] / inside.shape[1], size[0] / inside.shape[0]])
    boxes: list[Array] = []
    for contour in contours:
        core, short_side = around(contour)
        if short_side < 3 or mean_in(inside, core) < IS_TEXT:
            continue
        box, short_side = around(grown(core))
        if short_side < 5:
            continue
        on_page = np.clip(np.round(box * scale), 0, np.array(size[::-1]) - 1)
        corners = clockwise(on_page).astype(np.float32)
        sides = np.linalg.norm(corners[0] - corners[[1, 3]], axis=1)
        if min(sides) >= 4:
            boxes.append(corners)
    return in_reading_order(boxes)


def around(points: Array) -> tuple[Array, float]:
    """The smallest rectangle around points, and its shorter side."""
    rectangle = cv2.minAreaRect(points)
    return clockwise(cv2.boxPoints(rectangle)), min(rectangle[1])


def clockwise(corners: Array) -> Array:
    """Four corners from the upper left on."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:])
    )
    return np.array([top_left, top_right, bottom_right, bottom_left])


def mean_in(values: Array, box: Array) -> float:
    """The mean of what is inside a box."""
    low = np.clip(np.floor(box.min(axis=0)), 0, np.array(values.shape[::-1]) - 1).astype(int)
    high = np.clip(np.ceil(box.max(axis=0)), 0, np.array(values.shape[::-1]) - 1).astype(int)
    part = values[low[1] : high[1] + 1, low[0] : high[0] + 1]
    mask = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(mask, [(box - low).astype(np.int32)], 1)
    return float(cv2.mean(part, mask)[0])


def grown(box: Array) -> Array:
    """The polygon at a distance around a box."""
    distance = cv2.contourArea(box) * UNCLIP / cv2.arcLength(box, closed=True)
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(box, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return np.array(offset.Execute(distance)).reshape(-1, 1, 2)


def in_reading_order(boxes: list[Array]) -> list[Array]:
    """Boxes from top to bottom; of those on a line, from left to right."""
    ordered = sorted(boxes, key=lambda box: (box[0][1], box[0][0]))
    for last in range(1, len(ordered)):
        for at in range(last, 0, -1):
            before, box = ordered[at - 1], ordered[at]
            if abs(box[0][1] - before[0][1]) >= 10 or box[0][0] >= before[0][0]:
                break
            ordered[at - 1], ordered[at] = box, before
    return ordered


def cropped(page: Array, box: Array) -> Array:
    """What is in a box, set straight; lines that run down are laid on their side."""
    width = int(max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[2] - box[3])))
    height = int(max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2])))
    straight = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    crop = cv2.warpPerspective(
        page,
        cv2.getPerspectiveTransform(box, straight),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_CUBIC,
    )
    return np.rot90(crop) if height / width >= 1.5 else crop


def as_png(image: Array) -> bytes:
    """The file of an image."""
    return cv2.imencode(".png", image)[1].tobytes()


def for_recogniser(line: Array, widest: float) -> Array:
    """A line at the height that is read, on a ground as wide as the page's other lines'.

    Rows of one shape share a batch.

    Args:
        line: upright.
        widest: width by height of the page's widest line.
    """
    height, width = line.shape[:2]
    ground = max(int(LINE_HEIGHT * widest), LEAST_WIDTH)
    width = min(math.ceil(LINE_HEIGHT * width / height), ground)
    pixels = normalised(cv2.resize(line, (width, LINE_HEIGHT)))
    return np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, ground - width)))
