"""Keys and values in a device's own memory, moved about by that device.

All of it is one tensor of ONNX Runtime. Copies are runs of small graphs (`copies`) on a view of it:
rows of one head's numbers of one token. What they change they write in place.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forebay.contract.errors import BackendFailed, ConfigurationError
from forebay.contract.execution import ProviderOptions
from forebay.inference.backends import providers
from forebay.inference.backends.providers import CPU, CUDA
from forebay.inference.generation import copies
from forebay.inference.generation.memory import TYPES, Cache, Place, Shape

_Rows = npt.NDArray[np.int64]


class DeviceMemory:
    """Keys and values on a device; see `memory.Memory`.

    Args:
        shape: of all slots.
        cache_type: of a number, as a manifest names it.
        place: the device.

    Attributes:
        place: the device.
        address: where it begins there.

    Raises:
        ConfigurationError: this machine's ONNX Runtime has no provider for it, it isn't there, or
            it has no room.
    """

    def __init__(self, shape: Shape, cache_type: str, place: Place) -> None:
        self.place = place
        self._type = TYPES[cache_type]
        self._shape = shape
        tensors, slots, kv_heads, capacity, size = shape
        provider = CPU if place.kind == "cpu" else CUDA
        providers.check([provider], ort.get_available_providers())
        options: ProviderOptions = {} if provider == CPU else {"device_id": place.number}
        try:
            self._reads, self._writes, self._copies = (
                _open(graph(cache_type), provider, options)
                for graph in (copies.reading, copies.writing, copies.copying)
            )
            self._all: Any = ort.OrtValue.ortvalue_from_shape_and_type(
                list(shape), self._type, place.kind, place.number
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ConfigurationError(
                f"{place.kind} {place.number} has no room for keys and values of {slots} slots of "
                f"{capacity:,} tokens, or can't be used ({error}): lower `generation.slots` or "
                "`context`, or name another as `device_id` in `onnx.provider_options`."
            ) from error
        self.address = int(self._all.data_ptr())
        self._table = (tensors * slots * kv_heads * capacity, size)
        # Rows of the first slot's first tokens, and from a slot to the next.
        of_tensors = np.arange(tensors)[:, None] * slots * kv_heads
        first: _Rows = (of_tensors + np.arange(kv_heads)).ravel() * capacity
        self._heads = first.reshape(-1, 1, 1)
        self._slot = kv_heads * capacity
        self.clear()

    def clear(self) -> None:
        """See `Memory`."""
        self._all.update_inplace(np.zeros(self._shape, self._type))

    def read(self, slot: int, start: int, end: int) -> Cache:
        """See `Memory`."""
        tensors, _, kv_heads, _, size = self._shape
        values: Cache = np.empty((tensors, kv_heads, end - start, size), self._type)
        if end == start:
            return values
        binding = self._bind(self._reads, slot, start, end)
        shape = (tensors * kv_heads, end - start, size)
        binding.bind_output(copies.VALUES, "cpu", 0, self._type, shape, values.ctypes.data)
        _run(self._reads, binding)
        return values

    def write(self, slot: int, start: int, cache: Cache) -> None:
        """See `Memory`."""
        values = np.ascontiguousarray(cache, self._type)
        tokens, size = values.shape[2:]
        if not tokens:
            return
        binding = self._bind(self._writes, slot, start, start + tokens)
        binding.bind_cpu_input(copies.VALUES, values.reshape(-1, tokens, size))
        self._change(self._writes, binding)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """See `Memory`."""
        if end == start:
            return
        binding = self._bind(self._copies, source, start, end)
        binding.bind_cpu_input(copies.TO, self._heads + target * self._slot)
        self._change(self._copies, binding)

    def _bind(self, session: Any, slot: int, start: int, end: int) -> Any:
        """Say which rows."""
        binding = session.io_binding()
        binding.bind_input(copies.TABLE, *self._where())
        binding.bind_cpu_input(copies.HEADS, self._heads + slot * self._slot)
        binding.bind_cpu_input(copies.TOKENS, np.arange(start, end).reshape(1, -1, 1))
        return binding

    def _change(self, session: Any, binding: Any) -> None:
        binding.bind_output(copies.CHANGED, *self._where())
        _run(session, binding)

    def _where(self) -> tuple[str, int, type[np.generic], tuple[int, int], int]:
        return self.place.kind, self.place.number, self._type, self._table, self.address


def _open(graph: bytes, provider: str, its: ProviderOptions) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = ort.InferenceSession(graph, options, providers=[(provider, its)])
    # A provider whose libraries are missing is left out without an error.
    if session.get_providers()[0] != provider:
        raise OSError(f"{provider} can't be started: are CUDA and cuDNN installed?")
    return session


def _run(session: Any, binding: Any) -> None:
    try:
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise BackendFailed("Keys and values can't be copied on the device.") from error
