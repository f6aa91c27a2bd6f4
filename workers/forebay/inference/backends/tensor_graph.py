"""A graph of named tensors in an ONNX Runtime session, and what models of one have in common.

Where its first axis is rows, feeds whose other axes are the same share one forward pass; all others
run by themselves. Nothing is padded, so what a feed gives doesn't depend on its company.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from forebay.contract.errors import ArtifactError, BackendFailed
from forebay.contract.execution import Providers
from forebay.contract.manifest import Manifest
from forebay.contract.tensors import TensorSignature
from forebay.inference.backends.arrays import BF16, Array, joined
from forebay.inference.backends.graph import MODEL_FILE, InSession
from forebay.inference.backends.of_artifact import OfArtifact

Feed = Mapping[str, Array]
"""An array for each input, by name."""

_ONNX_BF16: Final = 16
"""`TensorProto.BFLOAT16`."""


class TensorGraph(InSession):
    """A graph, loaded.

    Args:
        path: `model.onnx`.
        signature: its tensors.
        threads: threads of one forward pass.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self, path: Path, signature: TensorSignature, *, threads: int, providers: Providers
    ) -> None:
        super().__init__(path, threads=threads, providers=providers)
        self._signature = signature
        self._outputs = [spec.name for spec in signature.outputs]
        edges = (*signature.inputs, *signature.outputs)
        self._has_bf16 = any(spec.datatype == BF16 for spec in edges)

    def run(self, feeds: Sequence[Feed]) -> list[list[Array]]:
        """Run feeds, those together that may be.

        Returns:
            For each feed, in order, the outputs in the signature's order.

        Raises:
            BackendFailed: ONNX Runtime failed, gave another number of rows than it took, or the
                graph was closed.
        """
        if not self._signature.batched:
            return [self._pass(feed) for feed in feeds]
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, feed in enumerate(feeds):
            shapes = tuple(feed[spec.name].shape[1:] for spec in self._signature.inputs)
            alike.setdefault(shapes, []).append(index)
        results: list[list[Array]] = [[] for _ in feeds]
        for indices in alike.values():
            together = self._together([feeds[index] for index in indices])
            for index, outputs in zip(indices, together, strict=True):
                results[index] = outputs
        return results

    def _together(self, feeds: Sequence[Feed]) -> list[list[Array]]:
        names = [spec.name for spec in self._signature.inputs]
        outputs = self._pass({name: joined([feed[name] for feed in feeds]) for name in names})
        counts = [len(feed[names[0]]) for feed in feeds]
        if any(len(output) != sum(counts) for output in outputs):
            raise BackendFailed("The model gave another number of rows than it took.")
        ends = np.cumsum(counts)[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [list(part) for part in zip(*parts, strict=True)]

    def _pass(self, feed: Feed) -> list[Array]:
        session = self._session
        if session is None:
            raise BackendFailed("The model was closed.")
        try:
            if self._has_bf16:
                return self._pass_of_values(session, feed)
            return list(session.run(self._outputs, dict(feed)))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BackendFailed("The model failed while it ran these rows.") from error

    def _pass_of_values(self, session: Any, feed: Feed) -> list[Array]:
        """A pass where BF16 goes in or comes out, which takes ONNX Runtime's own values."""
        value: Any = ort.OrtValue
        given = {
            spec.name: value.ortvalue_from_numpy_with_onnx_type(feed[spec.name], _ONNX_BF16)
            if spec.datatype == BF16
            else value.ortvalue_from_numpy(feed[spec.name])
            for spec in self._signature.inputs
        }
        return [
            _bits(got) if spec.datatype == BF16 else got.numpy()
            for spec, got in zip(
                self._signature.outputs,
                session.run_with_ort_values(self._outputs, given),
                strict=True,
            )
        ]


class OfTensorGraph(OfArtifact):
    """A model whose graph takes named tensors, in an ONNX Runtime session.

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
        streams: int,
        providers: Providers,
    ) -> None:
        super().__init__(manifest, threads=threads, streams=streams)
        if manifest.signature is None:
            raise ArtifactError(
                f"The manifest of {manifest.model!r} names no tensors; run `forebay models build "
                f"{manifest.model}`."
            )
        self._signature = manifest.signature
        self._graph = TensorGraph(
            folder / MODEL_FILE, self._signature, threads=threads, providers=providers
        )

    def traced(self, path: Path) -> AbstractContextManager[None]:
        """See `backends.base.Traced`."""
        return self._graph.traced(path)

    def close(self) -> None:
        """Drop the session and its weights."""
        self._graph.close()


def _bits(value: Any) -> Array:
    size = 2 * math.prod(value.shape())
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(raw, "<u2").reshape(value.shape())
