"""Text embeddings with ONNX Runtime: tokenize, pad, one forward pass.

The graph takes `input_ids` and `attention_mask`, int64 `[rows, tokens]`, and gives `embedding`,
float32 `[rows, dimensions]`, pooled and normalised inside.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Encoding, Tokenizer

from forebay.contract.errors import (
    ArtifactError,
    BackendFailed,
    ConfigurationError,
    InvalidInput,
    TooLong,
)
from forebay.contract.manifest import Manifest
from forebay.contract.rows import Embedding, Output, Row, TextRow, TokensRow
from forebay.inference.backends.base import PreparedRow
from forebay.runtime.processor import saturates

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"

GLANCE_CHARACTERS = 64
"""A text with more characters than this for each token of the limit is looked at from its start:
so much of it nearly always tells that it is over the limit, and where to cut it."""

MAX_CHARACTERS = 100_000
"""No more of a text than this is ever tokenized: the tokenizer takes some 100 bytes for each."""


class OnnxEmbedding:
    """An embedding model in an ONNX Runtime session.

    Args:
        folder: the artifact.
        manifest: the artifact's manifest, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph or the tokenizer can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        threads: int,
        streams: int = 1,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
    ) -> None:
        self._threads = threads
        self._streams = streams
        self._manifest = manifest
        self._limits = manifest.limits
        self._session = _open_session(folder / MODEL_FILE, threads=threads, providers=providers)
        self._tokenizer = _open_tokenizer(folder / TOKENIZER_FILE)
        self._glance = GLANCE_CHARACTERS * manifest.limits.max_tokens

    @property
    def threads(self) -> int:
        """Threads of one forward pass."""
        return self._threads

    @property
    def streams(self) -> int:
        """Forward passes that may run at once: a session is safe to run from many threads."""
        return self._streams

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self._manifest.version

    def warm(self) -> None:
        """Run the manifest's samples, each alone and then all together.

        Raises:
            ArtifactError: a sample is refused, or what comes out has the wrong shape.
        """
        prepared = self.prepare([TextRow(text) for text in self._manifest.samples], truncate=True)
        ready = [row for row in prepared if isinstance(row, PreparedRow)]
        outputs = [
            output for batch in (*([row] for row in ready), ready) for output in self.run(batch)
        ]
        size = 4 * self._limits.dimensions
        if len(ready) < len(prepared) or any(
            not isinstance(output, Embedding) or len(output.vector) != size for output in outputs
        ):
            raise ArtifactError(
                f"The artifact of {self._manifest.model!r} doesn't do what its manifest says with "
                f"the manifest's samples; run `forebay models build {self._manifest.model}`."
            )

    def prepare(self, rows: Sequence[Row], *, truncate: bool) -> list[PreparedRow | InvalidInput]:
        """Tokenize texts, check ids, and refuse what is over the limit.

        Args:
            rows: `TextRow`s and `TokensRow`s. Ids that already begin and end with the model's
                special tokens are used as they are; else the special tokens are added.
            truncate: keep the first tokens of a row over the limit, special tokens included.

        Returns:
            For each row, in order: the row ready to run, `TooLong`, or `InvalidInput`.
        """
        short = [row.text for row in rows if isinstance(row, TextRow) and self._is_short(row.text)]
        encodings = iter(self._tokenizer.encode_batch_fast(short))
        return [
            self._prepare(row, index, encodings, truncate=truncate)
            for index, row in enumerate(rows)
        ]

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """One forward pass over rows padded to the longest of them.

        Returns:
            An `Embedding` a row, in order: `dimensions` little-endian float32 values, unit length.

        Raises:
            BackendFailed: ONNX Runtime failed on this batch.
        """
        if not rows:
            return []
        shape = len(rows), max(row.length for row in rows)
        ids = np.full(shape, self._limits.pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            ids[index, : row.length] = row.data
            mask[index, : row.length] = 1
        session = self._session
        if session is None:
            raise BackendFailed("The model was closed.")
        try:
            (vectors,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BackendFailed("The model failed while it ran these rows.") from error
        return [
            Embedding(vector.tobytes(), row.length)
            for row, vector in zip(rows, vectors.astype("<f4", copy=False), strict=True)
        ]

    def close(self) -> None:
        """Drop the session and its weights."""
        self._session = None

    def _is_short(self, text: str) -> bool:
        return len(text) <= self._glance

    def _prepare(
        self, row: Row, index: int, encodings: Iterator[Encoding], *, truncate: bool
    ) -> PreparedRow | InvalidInput:
        limit = self._limits.max_tokens
        least = ""
        match row:
            case TextRow(text=text) if self._is_short(text):
                ids: Sequence[int] = next(encodings).ids
            case TextRow(text=text):
                # The last words of the glance may be cut, so only many more tokens than the
                # limit prove that the first `limit` ones are those of the whole text.
                ids = self._tokenizer.encode(text[: self._glance]).ids
                least = "at least "
                if len(ids) < 2 * limit:
                    ids = self._tokenizer.encode(text[:MAX_CHARACTERS]).ids
                    if len(text) <= MAX_CHARACTERS:
                        least = ""
                    elif len(ids) < 2 * limit:
                        return TooLong(
                            f"This text has {len(text):,} characters, and the first "
                            f"{MAX_CHARACTERS:,} come to only {len(ids):,} tokens: a model that "
                            f"takes {limit:,} tokens looks no further. Send less of it.",
                            row=index,
                        )
            case TokensRow(ids=ids):
                vocabulary = self._limits.vocabulary
                if not ids:
                    return InvalidInput("This row has no tokens.", row=index)
                if min(ids) < 0 or max(ids) >= vocabulary:
                    wrong = next(id_ for id_ in ids if not 0 <= id_ < vocabulary)
                    return InvalidInput(
                        f"{wrong} is no token id of this model: its ids go from 0 to "
                        f"{vocabulary - 1}.",
                        row=index,
                    )
                ids = self._with_special(ids)
            case _:
                return InvalidInput("This model takes text or token ids.", row=index)
        if len(ids) > limit:
            if not truncate:
                return TooLong(
                    f"This text has {least}{len(ids):,} tokens and this model takes {limit:,}: "
                    "shorten it, or send `truncate: true` to use its first tokens only.",
                    row=index,
                )
            suffix = self._limits.suffix
            ids = (*ids[: limit - len(suffix)], *suffix)
        return PreparedRow(len(ids), np.asarray(ids, np.int64))

    def _with_special(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        prefix, suffix = self._limits.prefix, self._limits.suffix
        bare = len(ids) < len(prefix) + len(suffix)
        if bare or ids[: len(prefix)] != prefix or ids[len(ids) - len(suffix) :] != suffix:
            return (*prefix, *ids, *suffix)
        return ids


def _open_session(path: Path, *, threads: int, providers: tuple[str, ...]) -> Any:
    missing = [name for name in providers if name not in ort.get_available_providers()]
    if missing:
        raise ConfigurationError(
            f"This machine's ONNX Runtime has no {', '.join(missing)}; it has "
            f"{', '.join(ort.get_available_providers())}."
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait are quicker on a machine of their own, and half as fast
    # where gateway and server share the cores (decision 0010).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ArtifactError(f"ONNX Runtime can't load {path}: {error}") from error


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"The tokenizer {path} can't be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
