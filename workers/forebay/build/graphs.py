"""The build of models that take no text: from a file, or a folder of an image classifier.

Their graphs ship as they are (decision 0025): an ONNX file's bytes are copied, what is converted to
one likewise, and a folder's model is exported in FP32.
"""

from pathlib import Path

import msgspec

from forebay.build import graph, onnx_file, probe, source
from forebay.build.conversion.convert import convert
from forebay.build.draft import Draft, Progress, manifest_of
from forebay.build.onnx_file import OnnxFile
from forebay.contract.errors import BuildFailed
from forebay.contract.image import ImageForm, ImageTable
from forebay.contract.manifest import Agreement, Head, Speed
from forebay.contract.model import GRAPHS, ONNX_FILE, ModelSpec, Precision
from forebay.contract.rows import Task
from forebay.contract.signature import Conversion
from forebay.contract.tensors import ANY, TensorSignature, TensorSpec, fits
from forebay.runtime import processor

_PIXELS = ("FP32", "FP16", "UINT8")
_SCORES = ("FP32", "FP16")


class _Made(msgspec.Struct, frozen=True):
    """An artifact's files are written; this is the rest of it.

    Attributes:
        source_sha256: hash of the weights.
        measured: against PyTorch; None of an ONNX file, which has nothing to be held against.
        fp32_bytes: size of the graph and its weights.
        conversion: of what was converted to an ONNX file.
    """

    source_sha256: str
    signature: TensorSignature
    speed: Speed
    fp32_bytes: int
    measured: Agreement | None = None
    image: ImageForm | None = None
    head: Head | None = None
    conversion: Conversion | None = None


def make(spec: ModelSpec, work: Path, progress: Progress) -> Draft:
    """Build a model whose graph stays as it is.

    Args:
        spec: the model.
        work: an empty folder.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed, or another precision than there is is asked for.
        OSError: the disk is full or not writable.
    """
    is_folder = not spec.source.startswith(GRAPHS)
    if spec.precision not in (Precision.FP32, *([Precision.INT8] if is_folder else [])):
        raise BuildFailed(
            f"{spec.name!r} asks for {spec.precision.value}, and the graph of a model of the task "
            f'{spec.task.value!r} is left as it is: say `precision = "fp32"`.'
        )
    folder = work / "artifact"
    folder.mkdir()
    made = _make(spec, folder, spec.threads or processor.cores(), progress)
    manifest = manifest_of(
        spec,
        folder,
        source_sha256=made.source_sha256,
        head=made.head,
        image=made.image,
        signature=made.signature,
    )
    return Draft(
        folder,
        manifest,
        made.measured,
        made.speed,
        made.fp32_bytes,
        conversion=made.conversion,
    )


def _make(spec: ModelSpec, folder: Path, threads: int, progress: Progress) -> _Made:
    """Write an artifact's files."""
    progress("source", 0.0)
    if not spec.source.startswith(GRAPHS):
        return _of_folder(spec, folder, threads, progress)
    file, sha256, conversion = _graph(spec, folder.parent, threads, progress)
    progress("evaluate", 0.0)
    signature = probe.signature_of(file, sample=spec.sample, where=f"models.{spec.name}")
    image, head = None, None
    if spec.task is Task.IMAGE_CLASSIFICATION:
        table = spec.image
        signature = _of_images(file, signature, table, where=f"models.{spec.name}.image")
        image, head = table.form, Head(table.labels, function=table.function)
    file.copy(folder)
    return _Made(
        sha256,
        signature,
        probe.speed(file, signature, threads=threads),
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        image=image,
        head=head,
        conversion=conversion,
    )


def _graph(
    spec: ModelSpec, work: Path, threads: int, progress: Progress
) -> tuple[OnnxFile, str, Conversion | None]:
    """The graph of a file, what its source hashes to, and how it was converted if it was."""
    if spec.source.startswith(ONNX_FILE):
        file = onnx_file.read(spec.source, base=Path(spec.folder), threads=threads)
        return file, file.sha256, None
    progress("export", 0.0)
    made = convert(spec, work, threads=threads)
    return made.file, made.sha256, made.conversion


def _of_folder(spec: ModelSpec, folder: Path, threads: int, progress: Progress) -> _Made:
    from forebay.build import image_precision
    from forebay.build.image_classifier import ImageClassifier
    from forebay.build.image_source import CONFIG

    found = source.resolve(spec.source, base=Path(spec.folder), beside=("config.json", CONFIG))
    recipe = ImageClassifier(found.folder)
    progress("export", 0.0)
    fp32 = folder.parent / "fp32.onnx"
    model = recipe.export(fp32)
    if spec.precision is Precision.INT8:
        progress("quantize", 0.0)
        model = image_precision.quantized(model, folder=found.folder)
    graph.save_mapped(model, folder)
    progress("evaluate", 0.0)
    measured, speed = recipe.measured(folder / graph.MODEL_FILE, exact=fp32, threads=threads)
    return _Made(
        found.sha256,
        recipe.signature,
        speed,
        fp32.stat().st_size,
        measured=measured,
        image=recipe.form,
        head=recipe.head,
    )


def _of_images(
    file: OnnxFile, signature: TensorSignature, table: ImageTable, *, where: str
) -> TensorSignature:
    """The part of a file's signature that classifies images, tried on their size."""
    pixels = file.inputs[0]
    wanted = (1, *table.form.shape)
    if len(file.inputs) != 1 or pixels.datatype not in _PIXELS or not fits(wanted, pixels.shape):
        told = ", ".join(f"{one.name} {one.datatype} {list(one.shape)}" for one in file.inputs)
        raise BuildFailed(
            f"{file.name} takes {told}, and an image becomes one tensor of {list(wanted)}, as "
            f"[{where}] says: correct height, width, channels or layout there, or serve the file "
            "with the task 'tensors'."
        )
    scores = _scores(file, len(table.labels))
    if scores is None:
        told = ", ".join(f"{one.name} {one.datatype} {list(one.shape)}" for one in file.outputs)
        raise BuildFailed(
            f"{file.name} gives {told}, and [{where}] names {len(table.labels)} labels: one output "
            "must have a score for each, [rows, labels]."
        )
    chosen = msgspec.structs.replace(
        signature, inputs=(pixels,), outputs=(scores,), sample=(wanted,)
    )
    shape = probe.output_shape(file, chosen)
    if shape != (1, len(table.labels)):
        raise BuildFailed(
            f"{file.name} gives {scores.name} of the shape {list(shape)} for one image, and "
            f"[{where}] names {len(table.labels)} labels: name as many as there are scores."
        )
    return chosen


def _scores(file: OnnxFile, labels: int) -> TensorSpec | None:
    """The output that has a score for each label: the first that can."""
    for one in file.outputs:
        if one.datatype in _SCORES and len(one.shape) == 2 and one.shape[1] in (ANY, labels):
            return one
    return None
