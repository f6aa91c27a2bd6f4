"""The artifact as every peer and the bare loop run it: one ONNX Runtime session, one tokenizer.

Runs in the peers' environment too, so it needs numpy, onnxruntime and tokenizers and no more.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Encoding, Tokenizer

MAX_TOKENS = 256


class Embedder:
    """Texts to vectors.

    Args:
        model: graph with inputs `input_ids` and `attention_mask`, int64 `[rows, tokens]`, and
            output `embedding`, float32 `[rows, dimensions]`.
        tokenizer: a `tokenizer.json`.
        threads: threads of one forward pass.
    """

    def __init__(self, model: Path, tokenizer: Path, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @classmethod
    def from_environment(cls, *, threads: int | None = None) -> "Embedder":
        """The benchmark's artifact, with the benchmark's number of threads unless told."""
        return cls(
            Path(os.environ["BENCH_ARTIFACT"]) / "model.onnx",
            Path(os.environ["BENCH_TOKENIZER"]),
            threads=threads or int(os.environ["BENCH_THREADS"]),
        )

    def tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """One encoding a text, in order."""
        return list(self._tokenizer.encode_batch_fast(list(texts)))

    def forward(self, encodings: Sequence[Encoding]) -> npt.NDArray[np.float32]:
        """One forward pass, every row padded to the longest; float32 `[rows, dimensions]`."""
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), longest), np.int64)
        mask = np.zeros((len(encodings), longest), np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        outputs = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        vectors: npt.NDArray[np.float32] = outputs[0]
        return vectors

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The texts as one batch, as they come; float32 `[texts, dimensions]`."""
        return self.forward(self.tokenize(texts))

    def embed_sorted(self, texts: Sequence[str], *, bucket: int = 8) -> npt.NDArray[np.float32]:
        """Sorted by length and run in batches of `bucket`; the result is in the texts' order."""
        encodings = self.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        groups = [order[at : at + bucket] for at in range(0, len(order), bucket)]
        vectors = [self.forward([encodings[i] for i in group]) for group in groups]
        result = np.empty((len(texts), vectors[0].shape[1]), np.float32)
        for group, found in zip(groups, vectors, strict=True):
            result[group] = found
        return result
