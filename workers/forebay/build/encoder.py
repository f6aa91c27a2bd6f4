"""Runs a graph over token ids the way workers do, to calibrate it and to measure it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto
from tokenizers import Tokenizer

from forebay.contract.manifest import TextLimits
from forebay.runtime.processor import saturates

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

SEGMENTS = "token_type_ids"

WINDOW_ROWS = 64
BUCKET_ROWS = 8


class Pair(msgspec.Struct, frozen=True):
    """Two texts as one row: ids and which of the texts each is of, both int64 `[length]`."""

    ids: Ids
    segments: Ids

    def __len__(self) -> int:
        """Tokens."""
        return len(self.ids)


Row = Ids | Pair


class Encoder:
    """A graph in an ONNX Runtime session on the CPU.

    Args:
        model: a file, or the graph itself.
        pad_id: token id for padding.
        threads: threads of one forward pass.
        output: name of what is asked for.
    """

    def __init__(
        self, model: Path | ModelProto, *, pad_id: int, threads: int, output: str = "embedding"
    ) -> None:
        self._session: Any = open_session(model, threads=threads)
        self._pad_id = pad_id
        self._has_segments = any(one.name == SEGMENTS for one in self._session.get_inputs())
        self.output = output

    def run(self, rows: Sequence[Row], outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """One forward pass, rows padded to the longest; the values of `outputs`, in order."""
        shape = len(rows), max(len(row) for row in rows)
        ids = np.full(shape, self._pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        segments = np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            if isinstance(row, Pair):
                segments[index, : len(row)] = row.segments
                row = row.ids
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feed = {"input_ids": ids, "attention_mask": mask}
        if self._has_segments:
            feed[SEGMENTS] = segments
        results: list[npt.NDArray[np.float32]] = self._session.run(list(outputs), feed)
        return results

    def logits(self, rows: Sequence[Row], batches: Sequence[Sequence[int]]) -> Vectors:
        """Logits in the order of `rows`: `[rows, labels]`, or `[all rows' tokens, labels]`."""
        results: list[Vectors] = [np.empty((0, 0), np.float32)] * len(rows)
        for batch in batches:
            (values,) = self.run([rows[index] for index in batch], [self.output])
            for index, value in zip(batch, values, strict=True):
                results[index] = value[: len(rows[index])] if value.ndim == 2 else value[None]
        return np.concatenate(results)

    def embed(self, rows: Sequence[Row], batches: Sequence[Sequence[int]]) -> Vectors:
        """Embeddings `[rows, dimensions]` in the order of `rows`, run batch by batch."""
        results = np.empty((len(rows), 0), np.float32)
        for batch in batches:
            (vectors,) = self.run([rows[index] for index in batch], ["embedding"])
            if not results.size:
                results = np.empty((len(rows), vectors.shape[1]), np.float32)
            results[list(batch)] = vectors
        return results


def alone(rows: Sequence[Row]) -> list[list[int]]:
    """Batches of one row."""
    return [[index] for index in range(len(rows))]


def bucketed(rows: Sequence[Row]) -> list[list[int]]:
    """Batches of 8 rows of like length, out of each 64 rows as they come."""
    batches: list[list[int]] = []
    for window in _cut(range(len(rows)), WINDOW_ROWS):
        batches += _cut(sorted(window, key=lambda index: len(rows[index])), BUCKET_ROWS)
    return batches


def mixed(rows: Sequence[Row]) -> list[list[int]]:
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
