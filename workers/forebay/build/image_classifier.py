"""The build of image classifiers from Hugging Face folders."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from forebay.build import agreement, graph, image_source, tracing
from forebay.build.encoder import Vectors, open_session
from forebay.build.sample_images import sample_images
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Agreement, Speed
from forebay.contract.tensors import ANY, TensorSignature, TensorSpec

INPUT = "pixel_values"
OUTPUT = "logits"

_TRACED = 3
"""Rows that are traced: more than one, so that none is taken for a constant."""

_BATCH = 8
_ROUNDS = 3


class ImageClassifier:
    """Builds an image classifier.

    Args:
        folder: a Hugging Face folder.

    Raises:
        BuildFailed: the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = image_source.read(folder)
        self.form, self.head = self._source.form, self._source.head
        with tracing.quiet():
            self._module = _module(folder)

    @property
    def signature(self) -> TensorSignature:
        """The graph's tensors; its first axis is rows."""
        shape = self.form.shape
        return TensorSignature(
            (TensorSpec(INPUT, "FP32", (ANY, *shape)),),
            (TensorSpec(OUTPUT, "FP32", (ANY, len(self.head.labels))),),
            batched=True,
            sample=((1, *shape),),
        )

    def export(self, out: Path) -> ModelProto:
        """Write the model as one ONNX file at `out`, weights inside, and return it.

        Input `pixel_values`, float32 `[rows, channels, height, width]`; output `logits`, float32
        `[rows, labels]`.

        Raises:
            BuildFailed: the model can't be traced, or doesn't take images of this size.
        """
        shape = self.form.shape
        probe = np.random.default_rng(0).standard_normal((_TRACED, *shape)).astype(np.float32)
        try:
            _of_torch(self._module, probe)
        except (RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()[0]
            raise BuildFailed(
                f"The model in {self._folder} does not take images of {shape[1]} by {shape[2]}, as "
                f"{image_source.CONFIG} makes them: {said}"
            ) from error
        exported = tracing.program(
            self._module, {INPUT: probe}, axes=(0,), output=OUTPUT, folder=self._folder
        )
        pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", *shape])
        labels = len(self.head.labels)
        model = graph.cleaned(exported, inputs=[pixels], output=OUTPUT, shape=["rows", labels])
        out.write_bytes(model.SerializeToString())
        return model

    def pixels(self) -> npt.NDArray[np.float32]:
        """The sample images as transformers' image processor has them."""
        made = self._source.processor(images=sample_images(), return_tensors="np")
        return np.asarray(made[INPUT], np.float32)

    def measured(self, path: Path, *, exact: Path, threads: int) -> tuple[Agreement, Speed]:
        """Compare a graph with PyTorch on the sample images, and with itself in other company.

        Args:
            path: the graph.
            exact: the one in full precision, which it was made of.
            threads: of one forward pass.

        Raises:
            BuildFailed: the logits of `exact` differ from PyTorch's by more than 1e-4.
        """
        pixels = self.pixels()
        run, full = _runner(path, threads), _runner(exact, threads)
        module = self._module
        expected = _alone(lambda some: _of_torch(module, some), pixels)
        alone, together = _alone(run, pixels), _batched(run, pixels)
        exported = _batched(full, pixels)
        # Of logits in the hundreds float32 keeps fewer digits behind the point.
        scale = max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(exported - expected).max()) / scale
        if not difference < tracing.TOLERANCE:
            raise BuildFailed(
                f"The exported graph of {self._folder} differs from PyTorch by {difference:.2g}; "
                f"{tracing.TOLERANCE:.0e} is allowed."
            )
        function = self.head.function
        return (
            agreement.compared(expected, got=together, alone=alone, function=function),
            _speed(run, full, pixels, threads=threads),
        )


def _module(folder: Path) -> Any:
    import torch

    body = tracing.load(image_source.AUTO_CLASS, folder)

    class Classifier(torch.nn.Module):
        """The classifier, which gives its logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.body(pixel_values=pixel_values).logits  # type: ignore[no-any-return]

    return Classifier().eval()


_Run = Callable[[npt.NDArray[np.float32]], Vectors]


def _runner(path: Path, threads: int) -> _Run:
    session = open_session(path, threads=threads)

    def run(pixels: npt.NDArray[np.float32]) -> Vectors:
        (values,) = session.run([OUTPUT], {INPUT: pixels})
        return np.asarray(values, np.float32)

    return run


def _of_torch(module: Any, pixels: npt.NDArray[np.float32]) -> Vectors:
    import torch

    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(pixels)).numpy(), np.float32)


def _alone(run: _Run, pixels: npt.NDArray[np.float32]) -> Vectors:
    return np.concatenate([run(pixels[at : at + 1]) for at in range(len(pixels))])


def _batched(run: _Run, pixels: npt.NDArray[np.float32]) -> Vectors:
    return np.concatenate([run(some) for some in _batches(pixels)])


def _batches(pixels: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[np.float32]]:
    return [pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH)]


def _speed(run: _Run, full: _Run, pixels: npt.NDArray[np.float32], *, threads: int) -> Speed:
    """Rows per second in batches, both graphs in turns; the best of each batch's rounds counts."""
    seconds = np.zeros(2)
    for some in _batches(pixels):
        best = np.full(2, np.inf)
        for _ in range(_ROUNDS):
            for index, one in enumerate((full, run)):
                started = time.perf_counter()
                one(some)
                best[index] = min(best[index], time.perf_counter() - started)
        seconds += best
    fp32, rows = (round(len(pixels) / float(one), 1) for one in seconds)
    return Speed(fp32_rows_s=fp32, rows_s=rows, ratio=round(rows / fp32, 3), threads=threads)
