"""Runs a generating graph in a plain ONNX Runtime session, as a worker does, to measure it.

Keys and values lie in buffers `[rows, kv_heads, capacity, head_size]` that are bound as past and as
present both, so that the graph writes into them in place. Rows are padded on the right: a row's sum
of the attention mask is its length.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forebay.build.encoder import open_session
from forebay.contract.manifest import Decoder

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

_ELEMENTS = {"FP32": np.float32, "FP16": np.float16}


class Written(msgspec.Struct, frozen=True):
    """Texts that were written side by side.

    Attributes:
        texts: their tokens, one list a prompt.
        first_s: from the start to the first token of the last prompt that was read.
        step_s: of each of the steps after that, in which every text grew by a token.
    """

    texts: list[list[int]]
    first_s: float
    step_s: list[float]


class Runner:
    """A graph in a session on the CPU.

    Args:
        path: `model.onnx`.
        decoder: how it is run.
        threads: of one forward pass.
    """

    def __init__(self, path: Path, decoder: Decoder, *, threads: int) -> None:
        self._session: Any = open_session(path, threads=threads)
        self._decoder = decoder
        self._element = _ELEMENTS[decoder.cache_type]
        layers = [(n, kind) for n in range(decoder.layers) for kind in ("key", "value")]
        self._past = [f"past_key_values.{n}.{kind}" for n, kind in layers]
        self._present = [f"present.{n}.{kind}" for n, kind in layers]

    def logits(self, ids: Ids) -> Logits:
        """Logits at each of a text's tokens, `[tokens, vocabulary]`, in one forward pass."""
        return self._read(ids)[0]

    def write(self, prompts: Sequence[Ids], *, tokens: int) -> Written:
        """Go on with prompts by the likeliest token each, side by side, past what would end them.

        Args:
            prompts: at least one, each of at least one token.
            tokens: how many to write for each.
        """
        rows = len(prompts)
        lengths = np.array([len(prompt) for prompt in prompts])
        shape = self._shape(rows, int(lengths.max()) + tokens)
        buffers = [np.zeros(shape, self._element) for _ in self._past]
        texts: list[list[int]] = []
        first_s = 0.0
        for row, prompt in enumerate(prompts):
            started = time.perf_counter()
            logits, cache = self._read(prompt)
            for buffer, read in zip(buffers, cache, strict=True):
                buffer[row, :, : len(prompt)] = read[0]
            texts.append([int(logits[-1].argmax())])
            first_s = time.perf_counter() - started
        bound = [ort.OrtValue.ortvalue_from_numpy(buffer) for buffer in buffers]
        step_s: list[float] = []
        for _ in range(tokens - 1):
            started = time.perf_counter()
            lengths += 1
            logits = self._step([text[-1] for text in texts], lengths, bound)
            for text, one in zip(texts, logits, strict=True):
                text.append(int(one.argmax()))
            step_s.append(time.perf_counter() - started)
        return Written(texts, first_s, step_s)

    def _read(self, ids: Ids) -> tuple[Logits, list[npt.NDArray[Any]]]:
        """A whole text in one pass: its logits, and its keys and values."""
        row = np.asarray(ids, np.int64)[None]
        nothing = np.zeros(self._shape(1, 0), self._element)
        feed: dict[str, Any] = {"input_ids": row, "attention_mask": np.ones_like(row)}
        feed |= dict.fromkeys(self._past, nothing)
        logits, *cache = self._session.run(["logits", *self._present], feed)
        return np.asarray(logits[0], np.float32), cache

    def _step(self, last: list[int], lengths: npt.NDArray[np.int64], cache: list[Any]) -> Logits:
        """One token more of every row; logits `[rows, vocabulary]`."""
        mask = (np.arange(lengths.max())[None] < lengths[:, None]).astype(np.int64)
        # Bound by reference: they have to live until the run is over.
        ids = ort.OrtValue.ortvalue_from_numpy(np.asarray(last, np.int64)[:, None])
        lived = ort.OrtValue.ortvalue_from_numpy(mask)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", ids)
        binding.bind_ortvalue_input("attention_mask", lived)
        for past, present, value in zip(self._past, self._present, cache, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        logits = binding.get_outputs()[-1].numpy()
        return np.asarray(logits[:, -1], np.float32)

    def _shape(self, rows: int, tokens: int) -> tuple[int, int, int, int]:
        return rows, self._decoder.kv_heads, tokens, self._decoder.head_size
