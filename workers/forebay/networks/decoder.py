"""A decoder in PyTorch, run over slots: parts of prompts, and steps of many texts at once.

What a text comes to must not depend on the others, and PyTorch's kernels give a row other bits when
they are given another number of rows. So they always are given the same number: a step runs all
slots, and a part of a prompt is filled up to its full length (decision 0045).
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.cache_utils import DynamicCache

from forebay.contract.errors import ArtifactError, BackendFailed
from forebay.contract.model import Precision
from forebay.networks import per_token
from forebay.networks.network import CONFIG_FILE, DTYPES, WEIGHTS_FILE, uninitialized
from forebay.networks.slots import SlotCache, check_layers, layers_of

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

AUTO_CLASS = "AutoModelForCausalLM"

PART = 32
"""Tokens of a prompt that are computed at once, and so the rows of each product of a part."""

CACHE_TYPES = {torch.float32: "FP32", torch.float16: "FP16", torch.bfloat16: "BF16"}
"""What a manifest calls them."""

_UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
_TRIED = 2
_FULL, _SLIDING = "full_attention", "sliding_attention"


class TorchDecoder:
    """Runs prompts and steps. Used by one thread at a time.

    Args:
        body: a causal language model of transformers, on its device.
        slots: how many texts have room.
        capacity: tokens that each has room for.
        chunk: tokens of a prompt that are computed at once.

    Raises:
        ArtifactError: its layers keep more than keys and values.
    """

    def __init__(self, body: Any, *, slots: int, capacity: int, chunk: int) -> None:
        self.chunk = chunk
        self.vocabulary = int(body.get_output_embeddings().weight.shape[0])
        self._device: torch.device = body.device
        self._body: Any = body
        with torch.no_grad():
            layers = layers_of(self._tried())
            self.pool = SlotCache(layers, slots=slots, capacity=capacity)
        self._dtype = cast("torch.dtype", self.pool.layers[0].keys.dtype)
        self._all = torch.arange(slots, device=self._device)
        self._keys = torch.arange(self.pool.width(capacity), device=self._device)
        known = inspect.signature(body.forward).parameters
        self._keeps = "logits_to_keep" in known

    @property
    def cache_type(self) -> str:
        """Number format of keys and values, as manifests have it."""
        return CACHE_TYPES[self._dtype]

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, over all layers."""
        tensors = [t for layer in self.pool.layers for t in (layer.keys, layer.values)]
        return sum(t.element_size() * t.shape[1] * t.shape[3] for t in tensors)

    def prefill(self, slot: int, ids: Ids, *, filled: int) -> Logits:
        """Compute a part of a prompt behind what the slot has.

        Args:
            slot: where its keys and values go.
            ids: `[tokens]`, at most `chunk`.
            filled: tokens that the slot has.

        Returns:
            Logits of the token after the last, `[vocabulary]`.

        Raises:
            BackendFailed: PyTorch failed.
        """
        (logits,) = self.read(slot, ids, filled=filled, last=True)
        return cast("Logits", logits)

    def read(self, slot: int, ids: Ids, *, filled: int, last: bool = False) -> Logits:
        """Compute a part of a prompt, as `prefill` does; logits of all its tokens, or the last.

        Returns:
            `[tokens, vocabulary]`, or `[1, vocabulary]`.
        """
        count = len(ids)
        padded = np.zeros((1, self.chunk), np.int64)
        padded[0, :count] = ids
        places = np.minimum(filled + np.arange(self.chunk), self.pool.capacity - 1)
        with torch.no_grad():
            self.pool.begin(slot, filled, count)
            kept = torch.arange(count, device=self._device)
            where = torch.zeros_like(kept), kept, filled + kept
            made = self._pass(
                padded, places[None], where, slice(slot, slot + 1), width=filled + count,
                keep=[count - 1] if last else list(range(count)),
            )  # fmt: skip
            return self._floats(made[0])

    def decode(self, first: int, tokens: Ids, filled: Ids) -> Logits:
        """One token more for each of some slots in a row.

        Args:
            first: the first slot.
            tokens: the next token of each slot, `[rows]`.
            filled: tokens that each slot has, `[rows]`; a row that has none is not written.

        Returns:
            Logits of the token after it, `[rows, vocabulary]`.

        Raises:
            BackendFailed: PyTorch failed.
        """
        end, slots = first + len(tokens), self.pool.slots
        ids, places = np.zeros((slots, 1), np.int64), np.zeros((slots, 1), np.int64)
        ids[first:end, 0], places[first:end, 0] = tokens, filled
        rows = np.flatnonzero(places[:, 0])
        with torch.no_grad():
            for slot in rows.tolist():
                self.pool.begin(slot, int(places[slot, 0]), 1)
            kept = torch.from_numpy(rows).to(self._device)
            where = kept, torch.zeros_like(kept), torch.from_numpy(places[rows, 0]).to(self._device)
            width = int(places.max()) + 1
            made = self._pass(ids, places, where, slice(slots), width=width, keep=[0])
            return self._floats(made[first:end, 0])

    def close(self) -> None:
        """Drop the weights."""
        self._body = None

    def _pass(
        self,
        ids: Ids,
        places: Ids,
        where: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        slots: slice,
        *,
        width: int,
        keep: list[int],
    ) -> torch.Tensor:
        """One forward pass; logits of the tokens that are kept, `[rows, kept, vocabulary]`."""
        body = self._body
        if body is None:
            raise BackendFailed("The model was closed.")
        width = self.pool.width(width)
        for layer in self.pool.layers:
            layer.aim(*where, slots, width)
        positions = torch.from_numpy(places).to(self._device)
        chosen = torch.tensor(keep, device=self._device)
        more = {"logits_to_keep": chosen} if self._keeps else {}
        try:
            made = body(
                input_ids=torch.from_numpy(ids).to(self._device),
                attention_mask=self._masks(positions, width),
                position_ids=positions,
                past_key_values=self.pool.cache,
                use_cache=True,
                **more,
            )
        except Exception as error:  # PyTorch raises what it likes
            raise BackendFailed("The model failed while it ran.") from error
        logits: torch.Tensor = made.logits if self._keeps else made.logits[:, chosen]
        return logits

    def _masks(self, positions: torch.Tensor, width: int) -> torch.Tensor | Mapping[str, Any]:
        """What each token may look at: added to its scores, `[rows, 1, tokens, width]`.

        Models with layers of two kinds take one for each, by the names that their configuration
        has for them.
        """
        windows = self.pool.windows
        if len(windows) == 1:
            return self._mask(positions, width, next(iter(windows)))
        (window,) = windows - {None}
        return {
            _FULL: self._mask(positions, width, None),
            _SLIDING: self._mask(positions, width, window),
        }

    def _mask(self, positions: torch.Tensor, width: int, window: int | None) -> torch.Tensor:
        at, keys = positions[:, None, :, None], self._keys[:width]
        hidden = keys > at
        if window is not None:
            hidden |= keys <= at - window
        least = torch.finfo(self._dtype).min
        return torch.zeros_like(hidden, dtype=self._dtype).masked_fill_(hidden, least)

    def _tried(self) -> DynamicCache:
        """What the model keeps of a few tokens."""
        check_layers(self._body.config)
        cache = DynamicCache(config=self._body.config)
        ids = torch.zeros((1, _TRIED), dtype=torch.int64, device=self._device)
        self._body(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache

    def _floats(self, logits: torch.Tensor) -> Logits:
        return cast("Logits", logits.float().cpu().numpy())


def open_decoder(folder: Path, *, precision: Precision, device: str = "cpu") -> Any:
    """The model in an artifact's folder.

    Args:
        folder: has what `network.save` wrote.
        precision: that it was saved in.
        device: PyTorch's name of where it is to run.

    Raises:
        ArtifactError: it can't be loaded, or the weights are not those of its configuration.
    """
    try:
        known = cast("Any", transformers)
        config = known.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        with uninitialized():
            body = getattr(known, AUTO_CLASS).from_config(config, dtype=DTYPES[precision])
        if precision is Precision.INT8:
            per_token.quantize(body.base_model, load=True)
        weights = load_file(folder / WEIGHTS_FILE, device=device)
        body.load_state_dict(weights, strict=True, assign=True)
        # The file has a copy for each name that the model has for the same numbers.
        body.tie_weights()
    except _UNREADABLE as error:
        raise ArtifactError(
            f"PyTorch can't load {folder / WEIGHTS_FILE} with its {CONFIG_FILE}: {error}"
        ) from error
    return body.eval().requires_grad_(False).to(device)
