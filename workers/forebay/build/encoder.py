"""Runs a graph over token ids the way workers do, to calibrate it and to measure it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto
from tokenizers import Tokenizer

from forebay.contract.manifest import TextLimits
from forebay.runtime.processor import saturates

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

WINDOW_ROWS = 64
BUCKET_ROWS = 8


class Encoder:
    """A graph in an ONNX Runtime session on the CPU.

    Args:
        model: a file, or the graph itself.
        pad_id: token id for padding.
        threads: threads of one forward pass.
    """

    def __init__(self, model: Path | ModelProto, *, pad_id: int, threads: int) -> None:
        self._session: Any = open_session(model, threads=threads)
        self._pad_id = pad_id

    def run(self, rows: Sequence[Ids], outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """One forward pass, rows padded to the longest; the values of `outputs`, in order."""
        shape = len(rows), max(len(row) for row in rows)
        ids = np.full(shape, self._pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        results: list[npt.NDArray[np.float32]] = self._session.run(
            list(outputs), {"input_ids": ids, "attention_mask": mask}
        )
        return results

    def embed(self, rows: Sequence[Ids], batches: Sequence[Sequence[int]]) -> Vectors:
        """Embeddings `[rows, dimensions]` in the order of `rows`, run batch by batch."""
        results = np.empty((len(rows), 0), np.float32)
        for batch in batches:
            (vectors,) = self.run([rows[index] for index in batch], ["embedding"])
            if not results.size:
                results = np.empty((len(rows), vectors.shape[1]), np.float32)
            results[list(batch)] = vectors
        return results


def alone(rows: Sequence[Ids]) -> list[list[int]]:
    """Batches of one row."""
    return [[index] for index in range(len(rows))]


def bucketed(rows: Sequence[Ids]) -> list[list[int]]:
    """Batches of 8 rows of like length, out of each 64 rows as they come."""
    batches: list[list[int]] = []
    for window in _cut(range(len(rows)), WINDOW_ROWS):
        batches += _cut(sorted(window, key=lambda index: len(rows[index])), BUCKET_ROWS)
    return batches


def mixed(rows: Sequence[Ids]) -> list[list[int]]:
    """Batches of 8 rows as they come, short ones padded to long ones."""
    return list(_cut(range(len(rows)), BUCKET_ROWS))


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], limits: TextLimits) -> list[Ids]:
    """Token ids of each text, cut to the limit with the special tokens kept."""
    room = limits.max_tokens - len(limits.suffix)
    rows: list[Ids] = []
    for encoding in tokenizer.encode_batch_fast(list(texts)):
        ids = encoding.ids
        if len(ids) > limits.max_tokens:
            ids = [*ids[:room], *limits.suffix]
        rows.append(np.asarray(ids, np.int64))
    return rows


def open_session(model: Path | ModelProto, *, threads: int) -> Any:
    """A CPU session that computes what a worker's does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(
        str(model) if isinstance(model, Path) else model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )


def _cut(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
