"""The OCR of the docs reads pages as `rapidocr-onnxruntime` does, whose three models it runs."""

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR

from forebay.build import pipeline
from forebay.runtime.catalog import read
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.pictures import encoded
from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S
from tests.unit.test_cli import invoke

pytestmark = pytest.mark.slow

CATALOG = ROOT / "docs" / "examples" / "ocr.toml"
LINES = ("The river feeds the lake", "Forebay 2026", "A turbine takes water as it comes")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="forebay-ocr-") as name:
        folder = Path(name)
        store = ArtifactStore(folder / "built")
        for spec in read(CATALOG).models.values():
            if spec.is_built:
                pipeline.build(spec, store)
        with running_stack(folder / "built", folder, models_file=str(CATALOG)) as running:
            yield running


@pytest.fixture(scope="module")
def package() -> RapidOCR:
    return RapidOCR(intra_op_num_threads=1)


def page(*lines: str, turn: float = 0.0, upside_down: bool = False) -> Image.Image:
    """Lines of text on paper, which may lie askew."""
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((50, 110 + 70 * number), line, fill="black", font=ImageFont.load_default(30))
    image = image.rotate(turn, fillcolor="white", resample=Image.Resampling.BICUBIC)
    return image.transpose(Image.Transpose.ROTATE_180) if upside_down else image


@pytest.mark.parametrize(
    "image",
    [page(*LINES), page(*LINES, turn=4.0), page(*LINES[:2], upside_down=True)],
    ids=["straight", "askew", "upside down"],
)
def test_lines_are_where_and_what_the_package_says(
    stack: Stack, package: RapidOCR, image: Image.Image
) -> None:
    expected, _ = package(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
    assert len(expected) >= 2
    told = read_page(stack, encoded(image))
    assert told["status"] == "succeeded", told
    lines = told["output"]
    assert [line["text"] for line in lines] == [text for _, text, _ in expected]
    for line, (corners, _, score) in zip(lines, expected, strict=True):
        assert np.abs(np.array(line["corners"]) - np.array(corners)).max() <= 1
        assert line["score"] == pytest.approx(float(score), abs=0.02)
    rows = {step["model"]: step["rows"] for step in told["metrics"]["steps"]}
    assert rows == {"detect": 1, "turned": len(lines), "recognise": len(lines)}


def test_a_page_that_is_blank_has_no_lines_and_what_is_no_page_is_refused(stack: Stack) -> None:
    assert read_page(stack, encoded(page("")))["output"] == []
    told = read_page(stack, b"no image")
    assert told["error"] == "Row 0: input.image is no image that can be read."


def test_the_pipeline_is_evaluated_through_the_gateway(stack: Stack, tmp_path: Path) -> None:
    pages = [encoded(page(*LINES)), encoded(page(LINES[0], turn=4.0))]
    rows = [
        {
            "input": {"image": base64.b64encode(file).decode()},
            "output": read_page(stack, file)["output"],
        }
        for file in pages
    ]
    rows.append(rows[0] | {"output": []})
    data = tmp_path / "pages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["models", "evaluate", "ocr", "--models-file", str(CATALOG), "--json"]
    done = invoke(*words, "--data", str(data), "--url", stack.url, "--tolerance", "0.01")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["figures"][0]["measure"] == "exact match"
    assert told["figures"][0]["value"] == pytest.approx(2 / 3)


def read_page(stack: Stack, file: bytes) -> dict[str, Any]:
    answer = httpx.post(
        f"{stack.url}/v1/predictions",
        json={"version": "ocr", "input": {"image": base64.b64encode(file).decode()}},
        headers={"Prefer": "wait"},
        timeout=PATIENCE_S,
    )
    told: dict[str, Any] = answer.json()
    return told
