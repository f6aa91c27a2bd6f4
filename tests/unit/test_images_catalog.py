"""ONNX files and images in `models.toml`, and the catalogs that the docs show."""

import re
import tomllib
from pathlib import Path

import pytest

from forebay.cli.predict import read_input
from forebay.contract.errors import ConfigurationError, InvalidInput
from forebay.contract.image import Fit, ImageForm, ImageTable
from forebay.contract.model import Precision
from forebay.contract.rows import Task
from forebay.contract.signature import InputTensor
from forebay.runtime.catalog import Catalog, read

ROOT = Path(__file__).parents[2]
MODEL = '[models.m]\ntask = "{task}"\nbackend = "onnx"\nsource = "{source}"\n'
IMAGES = MODEL.format(task="image-classification", source="onnx:m.onnx")
SCRIPT = MODEL.format(task="tensors", source="torchscript:m.pt")
SIGNATURE = '[models.m.signature]\ninputs = {{ x = "{}" }}\n'
TABLE = IMAGES + '[models.m.image]\nlabels = ["a"]\n'


def catalog(folder: Path, text: str) -> Catalog:
    (folder / "models.toml").write_text(text)
    return read(folder / "models.toml")


def test_every_catalog_of_the_docs_is_one(tmp_path: Path) -> None:
    pages = [ROOT / "docs" / name for name in ("tasks.md", "sources.md")]
    page = "\n".join(page.read_text("utf-8") for page in pages)
    shown = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for text in shown:
        # Some show one table of a model's, and the rest is as in the shipped catalog.
        (name, *_) = re.findall(r"^\[models\.(\w+)", text, re.MULTILINE)
        whole = f"[models.{name}]\n" in text
        own = MODEL.format(task="embedding", source="m").replace("models.m", f"models.{name}")
        assert catalog(tmp_path, (text if whole else own + text) + _steps_of(text)).models
    example = read(ROOT / "docs" / "examples" / "ocr.toml").models
    assert set(example) == {"detect", "turned", "recognise", "ocr"}
    (turned,) = (text for text in shown if "models.turned" in text)
    assert catalog(tmp_path, turned).find("turned").image == example["turned"].image


def _steps_of(text: str) -> str:
    """Models for the steps of pipelines that a catalog shows without them."""
    models = tomllib.loads(text)["models"]
    steps = {step for model in models.values() for step in model.get("steps", ())}
    table = '[models.{}]\ntask = "echo"\nbackend = "echo"\n'
    return "\n" + "".join(map(table.format, sorted(steps - models.keys())))


def test_images_and_tensors_are_left_in_full_precision(tmp_path: Path) -> None:
    assert catalog(tmp_path, TABLE).find("m").precision is Precision.FP32
    tensors = MODEL.format(task="tensors", source="onnx:m.onnx")
    assert catalog(tmp_path, tensors).find("m").precision is Precision.FP32
    folder = MODEL.format(task="embedding", source="m")
    assert catalog(tmp_path, folder).find("m").precision is Precision.INT8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (IMAGES, "models.m.image.labels: must be given: what the scores"),
        (
            TABLE.replace("[models.m.im", 'precision = "int8"\n[models.m.im'),
            "models.m.precision: must be fp32 for the task",
        ),
        (TABLE + "height = 0\n", "line 7: models.m.image.height: must be from 1 to 4,096"),
        (TABLE + "mean = [0.5]\n", "models.m.image.mean: must be a number for each of 3 channels"),
        (TABLE + "std = [1.0, 0.0, 1.0]\n", "models.m.image.std: must be a number other than 0"),
        (TABLE + 'fit = "height"\nresize = [9]\n', "models.m.image.resize: must be of 0 lengths"),
        (TABLE + "rescale = nan\n", "models.m.image.rescale: must be finite, and not 0"),
        (
            TABLE + 'antialias = false\nresample = "lanczos"\n',
            "models.m.image.antialias: must be true for the filter 'lanczos'",
        ),
        (TABLE + 'fit = "square"\n', "models.m.image.fit: invalid enum value 'square'; there are"),
        (TABLE + "colour = 1\n", "models.m.image.colour: there is no such field; there are height"),
        (
            TABLE.replace("onnx:m.onnx", "folder"),
            "models.m.image: must be left out: it is for files of graphs that classify images",
        ),
        (
            MODEL.format(task="tensors", source="folder"),
            "models.m.source: must be an ONNX file, `onnx:path/to/file.onnx`",
        ),
        (
            MODEL.format(task="embedding", source="onnx:m.onnx"),
            "models.m.source: must be no file of a graph for this task",
        ),
        (
            MODEL.format(task="tensors", source="onnx:m.onnx") + "sample = { x = [0] }\n",
            "models.m.sample: must be shapes of 1 to 1,000,000",
        ),
        (SCRIPT, "models.m.signature: must be given: a TorchScript file doesn't say what it takes"),
        (
            MODEL.format(task="tensors", source="onnx:m.onnx") + SIGNATURE.format("FP32[2]"),
            "line 5: models.m.signature: must be left out: it is for the tensors of TorchScript",
        ),
        (
            MODEL.format(task="embedding", source="torchscript:m.pt"),
            "models.m.source: must be no file of a graph for this task",
        ),
        *(
            (
                SCRIPT + SIGNATURE.format(shape),
                f"line 6: models.m.signature.inputs.x: must be {why}",
            )
            for shape, why in (
                ("FP32", "of the form"),
                ("FP32[0]", "of the form"),
                ("FP32[rows, -1]", "of the form"),
                ("FP32[1000001]", "of the form"),
                ("float[2]", "of the form"),
                ("BYTES[2]", "of one of BOOL, FP16, FP32"),
                ("FP8[2]", "of one of BOOL, FP16, FP32"),
            )
        ),
        (
            SCRIPT + SIGNATURE.format("FP32[2]") + 'outputs = ["x"]\n',
            "line 7: models.m.signature.outputs: must be of names that are not empty and that no",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_its_field(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog(tmp_path, text)
    assert told in caught.value.message


def test_a_signature_names_axes_and_gives_scalars_none(tmp_path: Path) -> None:
    text = SCRIPT + SIGNATURE.format('FP32[rows,3 , n_1]", y = "BOOL[]').replace("{{", "{")
    assert catalog(tmp_path, text).find("m").signature.tensors == (
        InputTensor("x", "FP32", ("rows", 3, "n_1")),
        InputTensor("y", "BOOL", ()),
    )


def test_a_table_is_a_form_and_what_its_scores_are_of() -> None:
    table = ImageTable(height=9, fit=Fit.SHORTEST, resize=(12,), labels=("a",))
    assert table.form == ImageForm(height=9, fit=Fit.SHORTEST, resize=(12,))
    assert type(table.form) is ImageForm


def test_an_image_is_named_by_its_path_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    task = Task.IMAGE_CLASSIFICATION
    assert read_input(str(tmp_path / "a.png"), task) == {"image": "iVBORw=="}
    for url in ("data:image/png;base64,iVBORw==", "https://example.org/a.png"):
        assert read_input(url, task) == {"image": url}
    assert read_input('{"image": "x", "top_k": 1}', task) == {"image": "x", "top_k": 1}
    with pytest.raises(InvalidInput, match=r"none\.png' can't be read"):
        read_input(str(tmp_path / "none.png"), task)
    with pytest.raises(InvalidInput, match="takes tensors, as a JSON object"):
        read_input("1.0", Task.TENSORS)
