"""Models of plain tensors with ONNX Runtime: what a row is, the artifact's signature says."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from forebay.contract.errors import ArtifactError, BackendFailed, InvalidInput
from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.manifest import Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Tensors, TensorsRow
from forebay.contract.tensors import ANY, BYTES
from forebay.inference.backends.arrays import DTYPES, array_of, tensor_of
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.tensor_graph import Feed, OfTensorGraph


class TensorsModel(OfTensorGraph):
    """A model of plain tensors in an ONNX Runtime session.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph can't be loaded, or the manifest names no tensors.
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
        super().__init__(folder, manifest, threads=threads, streams=streams, providers=providers)
        self.signature = self._signature
        self._specs = {spec.name: spec for spec in self.signature.inputs}

    def warm(self) -> None:
        """Run it on the shapes that its build has run it on.

        Raises:
            ArtifactError: it fails on them.
        """
        feed = {
            spec.name: np.full(shape, "a" if spec.datatype == BYTES else 1, DTYPES[spec.datatype])
            for spec, shape in zip(self.signature.inputs, self.signature.sample, strict=True)
        }
        try:
            self._graph.run([feed])
        except BackendFailed as error:
            raise ArtifactError(
                f"The artifact of {self._manifest.model!r} fails on what its build has run it on; "
                f"run `forebay models build {self._manifest.model}`."
            ) from error

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Hold rows against the signature; there is nothing to cut, no option known.

        Returns:
            For each row, in order: the row ready to run, or `InvalidInput`, which names the input.
        """
        prepared: list[PreparedRow | InvalidInput] = []
        for index, row in enumerate(rows):
            try:
                feed = self._feed(row)
                prepared.append(PreparedRow(self._length(feed), feed))
            except InvalidInput as error:
                error.row = index
                prepared.append(error)
        return prepared

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """Rows of the same shapes in one forward pass, others in passes of their own.

        Returns:
            `Tensors` a row, in order.

        Raises:
            BackendFailed: ONNX Runtime failed on some of them.
        """
        return [
            Tensors(
                tuple(
                    tensor_of(spec.name, spec.datatype, array)
                    for spec, array in zip(self.signature.outputs, arrays, strict=True)
                )
            )
            for arrays in self._graph.run([row.data for row in rows])
        ]

    def _feed(self, row: Row) -> Feed:
        if not isinstance(row, TensorsRow):
            raise InvalidInput("This model takes tensors, not text, images or JSON.")
        given = {tensor.name: tensor for tensor in row.tensors}
        if given.keys() != self._specs.keys() or len(given) < len(row.tensors):
            raise InvalidInput(
                f"This model takes each of {', '.join(self._specs)} once, and nothing else; "
                f"{', '.join(tensor.name[:80] for tensor in row.tensors) or 'nothing'} came."
            )
        feed = {name: array_of(given[name], spec) for name, spec in self._specs.items()}
        if self.signature.batched:
            counts = {name: len(array) for name, array in feed.items()}
            if len(set(counts.values())) != 1 or 0 in counts.values():
                told = ", ".join(f"{name} has {count}" for name, count in counts.items())
                raise InvalidInput(
                    f"The first axis is rows, of which each input has the same number: {told}."
                )
        return feed

    def _length(self, feed: Feed) -> int:
        """What a row costs: the product of its dynamic axes, of the input where that is most."""
        costs = (
            math.prod(
                int(size)
                for size, wanted in zip(feed[name].shape, spec.shape, strict=True)
                if wanted == ANY
            )
            for name, spec in self._specs.items()
        )
        return max(1, *costs)
