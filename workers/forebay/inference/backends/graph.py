"""Graphs in ONNX Runtime sessions, and a text model's: pad, one forward pass, values by name.

The graph takes `input_ids` and `attention_mask`, int64 `[rows, tokens]`, and `token_type_ids`
likewise where the model tells two texts apart. What it gives, float32 with rows first, does not
depend on who shares the batch.
"""

import functools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forebay.contract.errors import ArtifactError, BackendFailed
from forebay.contract.execution import ON_CPU, Providers
from forebay.inference.backends import providers as execution
from forebay.inference.backends.base import PreparedRow
from forebay.runtime.processor import saturates

Ids = npt.NDArray[np.int64]

MODEL_FILE = "model.onnx"
SEGMENTS = "token_type_ids"


class InSession:
    """A graph in a session.

    Args:
        path: `model.onnx`.
        threads: threads of one forward pass.
        providers: ONNX Runtime execution providers, by name, the preferred one first, and the
            options of each.

    Raises:
        ArtifactError: the graph can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(self, path: Path, *, threads: int, providers: Providers) -> None:
        self._open = functools.partial(open_session, path, threads=threads, providers=providers)
        self._session: Any = self._open()

    @contextmanager
    def traced(self, path: Path) -> Generator[None]:
        """See `backends.base.Traced`: runs go through a second session, which writes down each."""
        plain, self._session = self._session, self._open(profile=path)
        try:
            yield
        finally:
            traced, self._session = self._session, plain
            Path(traced.end_profiling()).replace(path)

    def close(self) -> None:
        """Drop the session and its weights."""
        self._session = None


class Graph(InSession):
    """A text model's graph, loaded.

    Args:
        path: `model.onnx`.
        output: name of the output that is asked for.
        pad_id: token id for padding.
        threads: threads of one forward pass.
        providers: ONNX Runtime execution providers, by name, the preferred one first, and the
            options of each.

    Raises:
        ArtifactError: the graph can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self,
        path: Path,
        *,
        output: str,
        pad_id: int,
        threads: int,
        providers: Providers = ON_CPU,
    ) -> None:
        super().__init__(path, threads=threads, providers=providers)
        self._outputs = [output]
        self._pad_id = pad_id
        self._has_segments = any(value.name == SEGMENTS for value in self._session.get_inputs())

    def run(self, rows: Sequence[PreparedRow]) -> npt.NDArray[np.float32]:
        """One forward pass over rows padded to the longest of them.

        Args:
            rows: at least one; `data` is int64 `[length]`. Where the graph takes segments they
                may have `segments`, likewise; zeros where that is None or there is no such thing.

        Returns:
            The output's values, the axis of rows first.

        Raises:
            BackendFailed: ONNX Runtime failed on this batch, or the graph was closed.
        """
        feed = self._lone(rows[0]) if len(rows) == 1 else self._together(rows)
        session = self._session
        if session is None:
            raise BackendFailed("The model was closed.")
        try:
            (values,) = session.run(self._outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BackendFailed("The model failed while it ran these rows.") from error
        return values  # type: ignore[no-any-return]

    def _lone(self, row: PreparedRow) -> dict[str, Ids]:
        """Nothing is padded, and nothing of what was prepared is copied."""
        shape = 1, row.length
        feed = {"input_ids": row.data.reshape(shape), "attention_mask": np.ones(shape, np.int64)}
        if self._has_segments:
            given = getattr(row, "segments", None)
            feed[SEGMENTS] = np.zeros(shape, np.int64) if given is None else given.reshape(shape)
        return feed

    def _together(self, rows: Sequence[PreparedRow]) -> dict[str, Ids]:
        lengths = [row.length for row in rows]
        there = np.arange(max(lengths)) < np.array(lengths)[:, None]
        feed = {
            "input_ids": padded([row.data for row in rows], there, fill=self._pad_id),
            "attention_mask": there.astype(np.int64),
        }
        if self._has_segments:
            feed[SEGMENTS] = _segments(rows, there)
        return feed


def padded(pieces: Sequence[Ids], there: npt.NDArray[np.bool_], *, fill: int) -> Ids:
    """Rows below one another, each filled up behind to the longest.

    Args:
        pieces: int64 `[length]` of each row.
        there: `[rows, longest]`, where a row has something.
        fill: what is put elsewhere.
    """
    values = np.full(there.shape, fill, np.int64)
    values[there] = np.concatenate(pieces)
    return values


def _segments(rows: Sequence[PreparedRow], there: npt.NDArray[np.bool_]) -> Ids:
    if set(map(type, rows)) == {PreparedRow}:  # these have none
        return np.zeros(there.shape, np.int64)
    given = [getattr(row, "segments", None) for row in rows]
    pieces = [
        np.zeros(row.length, np.int64) if one is None else one
        for row, one in zip(rows, given, strict=True)
    ]
    return padded(pieces, there, fill=0)


def open_session(
    path: Path,
    *,
    threads: int,
    providers: Providers,
    spin_us: int = 0,
    profile: Path | None = None,
) -> Any:
    """A session of a graph.

    Args:
        path: `model.onnx`.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, by name, the preferred one first.
        spin_us: how long a thread without work looks out for more within a run, in microseconds,
            before it sleeps.
        profile: where to write down each run, if at all.

    Raises:
        ArtifactError: the graph can't be loaded.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """
    execution.check([name for name, _ in providers], ort.get_available_providers())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait are quicker on a machine of their own, and half as fast
    # where gateway and server share the cores (decision 0010).
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin_us > 0)))
    if spin_us:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ArtifactError(f"ONNX Runtime can't load {path}: {error}") from error
