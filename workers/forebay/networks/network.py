"""A network, opened from an artifact's folder or made of a model that is loaded."""

import contextlib
import inspect
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.modeling_utils import PreTrainedModel

from forebay.contract.errors import ArtifactError
from forebay.contract.model import Precision
from forebay.contract.network import Network, Pooling
from forebay.networks import per_token

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

DTYPES = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
    Precision.INT8: torch.float32,
}
"""What a network computes in; with `int8`, all but its linear layers."""

_UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)


class TextNetwork(torch.nn.Module):
    """A model of transformers with what makes one tensor of its output.

    Args:
        body: the model.
        network: says what becomes of its output.
    """

    def __init__(self, body: torch.nn.Module, network: Network) -> None:
        super().__init__()
        self.body = body
        self._network = network
        # Nothing is generated here, and what a decoder remembers would be thrown away.
        known = inspect.signature(body.forward).parameters
        self._fixed: dict[str, Any] = {"use_cache": False} if "use_cache" in known else {}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One forward pass.

        Args:
            input_ids: int64 `[rows, tokens]`.
            attention_mask: likewise, 1 where there is a token and 0 where there is padding.
            token_type_ids: likewise, of a model that is told which of two texts a token is of.

        Returns:
            float32: embeddings `[rows, dimensions]`, or logits `[rows, …, labels]`.
        """
        told = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        made = self.body(input_ids=input_ids, attention_mask=attention_mask, **told, **self._fixed)
        if self._network.pooling is None:
            return cast("torch.Tensor", made.logits.float())
        tokens = made.last_hidden_state.float()
        if self._network.pooling is Pooling.CLS:
            pooled = tokens[:, 0]
        else:
            weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        if self._network.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        return cast("torch.Tensor", pooled)


def save(body: PreTrainedModel, folder: Path, *, precision: Precision) -> None:
    """Write a model's configuration and its weights in a precision. The model may be changed.

    Args:
        body: a model of transformers, in FP32.
        folder: where; it gets `config.json` and `model.safetensors`.
        precision: of the weights.
    """
    _without_pooler(body)
    cast("torch.nn.Module", body).to(DTYPES[precision])
    if precision is Precision.INT8:
        per_token.quantize(_quantized_part(body))
    config = body.config.to_diff_dict()
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    # Copies: weights that two names share can't be told apart in a file, nor can views.
    weights = {name: value.detach().clone().contiguous() for name, value in _state(body).items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def open_network(
    folder: Path, network: Network, *, precision: Precision, device: str = "cpu"
) -> TextNetwork:
    """The network in an artifact's folder, its weights mapped into memory where that is the CPU's.

    Args:
        folder: has what `save` wrote.
        network: what it is.
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
            body = getattr(known, network.kind).from_config(config, dtype=DTYPES[precision])
        _without_pooler(body)
        if precision is Precision.INT8:
            per_token.quantize(_quantized_part(body), load=True)
        weights = load_file(folder / WEIGHTS_FILE, device=device)
        body.load_state_dict(weights, strict=True, assign=True)
    except _UNREADABLE as error:
        raise ArtifactError(
            f"PyTorch can't load {folder / WEIGHTS_FILE} with its {CONFIG_FILE}: {error}"
        ) from error
    made = TextNetwork(body, network).eval().requires_grad_(False)
    return made.to(device)


def _quantized_part(body: Any) -> torch.nn.Module:
    """All but the head: that is a sliver of the work, and where rounding hurts most."""
    return cast("torch.nn.Module", body.base_model)


def _without_pooler(body: Any) -> None:
    """Drop what an embedder never uses, and often has no weights for."""
    if getattr(body, "pooler", None) is not None and body.base_model is body:
        body.pooler = None


def _state(body: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(body.state_dict())


@contextlib.contextmanager
def uninitialized() -> Generator[None]:
    """Spend no time on random weights that are replaced at once."""
    from transformers import initialization

    with cast("Any", initialization).no_init_weights():
        yield
