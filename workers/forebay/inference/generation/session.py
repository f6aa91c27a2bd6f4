"""A generating graph in an ONNX Runtime session, on keys and values that stay where they are.

The graph is one of ONNX Runtime GenAI's builder (`manifest.Decoder`), run by plain ONNX Runtime:
past and present of each layer are bound to the same memory, so a step writes its own keys and
values and copies none. Rows are padded on the right: how long each is says its mask.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.contract.errors import ArtifactError, BackendFailed
from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.manifest import Decoder
from forebay.inference.backends.graph import open_session
from forebay.inference.generation.pool import Pool

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

IDS = "input_ids"
MASK = "attention_mask"
LOGITS = "logits"

SPIN_US = 20
"""How long a run's threads look out for the next piece of work before they sleep. A step has some
two hundred pieces of 50 µs and less, and sleeping and waking cost a fifth of it (decision 0050)."""

STRIDE = 64
"""A step's mask is a multiple of this many tokens long: while it is as long as in the step before,
nothing has to be bound anew."""

_FLOATS: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class _Bound:
    """What runs on some slots are bound to.

    Args:
        binding: ONNX Runtime's, of the slots' keys and values.
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self._shapes: dict[str, tuple[int, ...]] = {}

    def differs(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a buffer had another shape in the run before; it has this one now."""
        before, self._shapes[name] = self._shapes.get(name), shape
        return before != shape


class DecoderSession:
    """Runs prompts and steps.

    Used by one thread at a time.

    Args:
        path: `model.onnx`.
        decoder: what the manifest says of it.
        pool: for keys and values, on the device that the first provider runs it on.
        chunk: most tokens of a prompt that are computed at once.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: the graph can't be loaded, or is none that the manifest's words fit.
        ConfigurationError: a provider isn't in this machine's ONNX Runtime.
    """

    def __init__(
        self,
        path: Path,
        decoder: Decoder,
        pool: Pool,
        *,
        chunk: int,
        threads: int,
        providers: Providers = ON_CPU,
    ) -> None:
        self.pool = pool
        self.chunk = chunk
        self.vocabulary = decoder.vocabulary
        self._session: Any = open_session(
            path, threads=threads, providers=providers, spin_us=SPIN_US
        )
        self._layers = decoder.layers
        self._check(path)
        (logits,) = [value for value in self._session.get_outputs() if value.name == LOGITS]
        self._last_only = logits.shape[1] == 1
        # Buffers that runs read and write: bound by address, so they live as long as the session.
        most = max(pool.slots, pool.rows)
        rows = max(most, 1 if self._last_only else chunk)
        self._logits = np.zeros((rows, decoder.vocabulary), _FLOATS[logits.type])
        self._ids = np.zeros(max(most, chunk), np.int64)
        self._mask = np.zeros(most * pool.capacity, np.int64)
        # Runs copy to and from a device; on the CPU there is nothing to wait for.
        self._elsewhere = pool.place.kind != "cpu"
        self._places = np.arange(pool.capacity, dtype=np.int64)
        self._bound: dict[tuple[int, int, bool], _Bound] = {}

    def prefill(self, slot: int, ids: Ids, *, filled: int) -> Logits:
        """Compute a part of a prompt behind what the slot has.

        Args:
            slot: where its keys and values go.
            ids: `[tokens]`, at most `chunk`.
            filled: tokens that the slot has.

        Returns:
            Logits of the token after the last, `[vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: ONNX Runtime failed.
        """
        count = len(ids)
        self._ids[:count] = ids
        mask = self._mask[: filled + count]
        mask[:] = 1
        outputs = 1 if self._last_only else count
        self._run(slot, 1, (1, count), (1, filled + count), (1, outputs))
        last: Logits = self._floats(outputs)[-1]
        return last

    def decode(self, first: int, tokens: Ids, filled: Ids) -> Logits:
        """One token more for each of some slots in a row.

        Args:
            first: the first slot.
            tokens: the next token of each slot, `[rows]`.
            filled: tokens that each slot has, `[rows]`; the new one's keys and values are written
                behind them.

        Returns:
            Logits of the token after it, `[rows, vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: ONNX Runtime failed.
        """
        return self._step(first, tokens, filled)

    def check(self, slot: int, tokens: Ids, *, filled: int) -> Logits:
        """Several tokens more of one text, with the bits of as many steps (decision 0042).

        Each is a row of a step, on the slot's own memory. Attention stores the keys and values of
        all rows before it looks at those of any, so each row finds those of the tokens before it.

        Args:
            slot: the text's.
            tokens: its next tokens, `[rows]`, at most `pool.rows`; their keys and values are
                written behind what the slot has.
            filled: tokens that the slot has.

        Returns:
            Logits of the token after each, `[rows, vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: ONNX Runtime failed.
        """
        # The last comes first: a kernel that looked at a row before it stored the others would
        # find nothing there, and not what it should by chance; see `checking.exact`.
        places = np.arange(filled, filled + len(tokens))[::-1]
        return self._step(slot, tokens[::-1], places, mirrored=True)[::-1]

    def close(self) -> None:
        """Drop the session and its weights."""
        self._bound.clear()
        self._session = None

    def _step(self, first: int, tokens: Ids, filled: Ids, *, mirrored: bool = False) -> Logits:
        rows = len(tokens)
        self._ids[:rows] = tokens
        # A row's bits don't depend on how long others are, so on nobody's length either.
        longest = int(filled.max()) + 1
        width = min(-(-longest // STRIDE) * STRIDE, self.pool.capacity)
        mask = self._mask[: rows * width].reshape(rows, width)
        np.less_equal(self._places[:width], filled[:, None], out=mask, casting="unsafe")
        self._run(first, rows, (rows, 1), (rows, width), (rows, 1), mirrored=mirrored)
        return self._floats(rows)

    def _run(
        self,
        first: int,
        rows: int,
        ids: tuple[int, int],
        mask: tuple[int, int],
        outputs: tuple[int, int],
        *,
        mirrored: bool = False,
    ) -> None:
        if self._session is None:
            raise BackendFailed("The model was closed.")
        key = (first, rows, mirrored)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = _Bound(self._bind(*key))
        binding = bound.binding
        for name, values, shape in ((IDS, self._ids, ids), (MASK, self._mask, mask)):
            if bound.differs(name, shape):
                binding.bind_input(name, "cpu", 0, np.int64, shape, values.ctypes.data)
        if bound.differs(LOGITS, outputs):
            logits = self._logits.dtype.type, (*outputs, self.vocabulary), self._logits.ctypes.data
            binding.bind_output(LOGITS, "cpu", 0, *logits)
        try:
            if self._elsewhere:
                binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            if self._elsewhere:
                binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BackendFailed("The model failed while it ran.") from error

    def _bind(self, first: int, rows: int, mirrored: bool) -> Any:
        """Keys and values of some slots, or of one several times, as past and as present."""
        binding = self._session.io_binding()
        shape, place = self.pool.shape(rows), self.pool.place
        pointer = self.pool.mirrored if mirrored else self.pool.pointer
        for tensor, (past, present) in enumerate(self._names()):
            where = (place.kind, place.number, self.pool.type, shape, pointer(tensor, first))
            binding.bind_input(past, *where)
            binding.bind_output(present, *where)
        return binding

    def _floats(self, rows: int) -> Logits:
        return self._logits[:rows].astype(np.float32, copy=False)

    def _names(self) -> list[tuple[str, str]]:
        return [
            (f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}")
            for layer in range(self._layers)
            for kind in ("key", "value")
        ]

    def _check(self, path: Path) -> None:
        """Hold the graph against the manifest."""
        inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        pasts, presents = zip(*self._names(), strict=True)
        missing = {IDS, MASK, *pasts} - inputs | {LOGITS, *presents} - outputs
        unknown = inputs - {IDS, MASK, *pasts}
        if missing or unknown:
            raise ArtifactError(
                f"{path} is no graph of text generation as its manifest says: "
                + (f"it lacks {', '.join(sorted(missing))}" if missing else "")
                + (" and " if missing and unknown else "")
                + (f"it takes {', '.join(sorted(unknown))}" if unknown else "")
                + ". Build the model again."
            )
