"""Image classifiers with ONNX Runtime: decode, bring to size, one forward pass, labels."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from forebay.contract.errors import ArtifactError, BackendFailed, InvalidInput
from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.manifest import Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, ImageRow, Options, Output, Row
from forebay.inference.backends.arrays import DTYPES
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.tensor_graph import OfTensorGraph
from forebay.inference.images.decode import decode
from forebay.inference.images.pixels import pixels_of
from forebay.inference.tasks.scores import classes

_SAMPLES = ((64, 48), (31, 200))
"""Sizes of the images that it is warmed on."""


class PreparedImage(PreparedRow, frozen=True):
    """An image ready to run; `data` is what the graph takes of it, with the axis of rows.

    Attributes:
        options: what is asked of the output.
    """

    options: Options = DEFAULT_OPTIONS


class ImageModel(OfTensorGraph):
    """An image classifier in an ONNX Runtime session.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph can't be loaded, or the manifest doesn't say how it is fed.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        threads: int,
        streams: int = 1,
        providers: Providers = ON_CPU,
    ) -> None:
        if manifest.image is None or manifest.head is None:
            raise ArtifactError(
                f"The manifest of {manifest.model!r} names no labels, or not how images are fed; "
                f"run `forebay models build {manifest.model}`."
            )
        super().__init__(folder, manifest, threads=threads, streams=streams, providers=providers)
        self._form, self._head = manifest.image, manifest.head
        self._input = self._signature.inputs[0]

    def warm(self) -> None:
        """Classify two plain images, each alone and then both.

        Raises:
            ArtifactError: it fails on them, or has another number of labels than its manifest.
        """
        rows: list[Row] = []
        for size in _SAMPLES:
            file = io.BytesIO()
            Image.new("RGB", size, "gray").save(file, "PNG")
            rows.append(ImageRow(file.getvalue()))
        ready = [row for row in self.prepare(rows, truncate=False) if isinstance(row, PreparedRow)]
        try:
            for batch in (*([row] for row in ready), ready):
                self.run(batch)
        except BackendFailed as error:
            raise ArtifactError(
                f"The artifact of {self._manifest.model!r} doesn't do what its manifest says with "
                f"an image; run `forebay models build {self._manifest.model}`."
            ) from error

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Decode images and bring them to size; there is nothing to cut.

        Returns:
            For each row, in order: the row ready to run, or `InvalidInput`.
        """
        dtype = DTYPES[self._input.datatype]
        prepared: list[PreparedRow | InvalidInput] = []
        for index, row in enumerate(rows):
            try:
                if not isinstance(row, ImageRow):
                    raise InvalidInput("This model takes images, not text, tensors or JSON.")
                pixels = pixels_of(decode(row.image), self._form, dtype)
                prepared.append(PreparedImage(1, pixels[None], options))
            except InvalidInput as error:
                error.row = index
                prepared.append(error)
        return prepared

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """One forward pass over all rows, or one for each where the graph has no axis of rows.

        Returns:
            `Classes` a row, in order, the best label first.

        Raises:
            BackendFailed: ONNX Runtime failed, or gave something that is no score for each label.
        """
        if not rows:
            return []
        found = self._graph.run([{self._input.name: row.data} for row in rows])
        wanted = (1, len(self._head.labels))
        if any(outputs[0].shape != wanted for outputs in found):
            raise BackendFailed("The model gave something that is no score for each of its labels.")
        values = np.concatenate([outputs[0] for outputs in found]).astype(np.float32)
        asked = [row.options if isinstance(row, PreparedImage) else DEFAULT_OPTIONS for row in rows]
        return classes(self._head, values, options=asked, tokens=[0] * len(rows))
