"""PyTorch encoder to FP32 ONNX graph, with pooling and normalisation inside."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from forebay.build import tracing
from forebay.build.layout import Layout
from forebay.contract.network import Pooling


def export(folder: Path, layout: Layout, out: Path) -> ModelProto:
    """Write the encoder in `folder` as one ONNX file at `out`, weights inside, and return it.

    Inputs `input_ids` and `attention_mask`, int64 `[rows, tokens]`, both axes dynamic; output
    `embedding`, float32 `[rows, dimensions]`. Attention stays in its parts: ONNX Runtime's fused
    kernels were slower for buckets of short rows on a CPU (decision 0006).

    Raises:
        BuildFailed: the weights can't be loaded or traced, or the graph's output differs from
            PyTorch's by more than 1e-4.
    """
    return tracing.trace(
        encoder(folder, layout),
        [_probe(layout), _longest(layout)],
        out,
        output="embedding",
        shape=["rows", layout.limits.dimensions],
        most=layout.limits.max_tokens,
        folder=folder,
    )


def encoder(folder: Path, layout: Layout) -> Any:
    """The encoder in `folder` with its pooling and normalisation, as one PyTorch module.

    Raises:
        BuildFailed: the weights can't be loaded.
    """
    import torch

    # A pooler goes unused here.
    with tracing.quiet():
        body = tracing.load("AutoModel", folder, unused=("pooler.",))

    class Embedder(torch.nn.Module):
        """The encoder, its pooling and its normalisation as one module."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            tokens = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if layout.pooling is Pooling.CLS:
                pooled = tokens[:, 0]
            else:
                weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
                pooled = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, dim=1) if layout.normalize else pooled

    return Embedder().eval()


def _probe(layout: Layout) -> tracing.Feed:
    """Three rows of different lengths: one full, one of special tokens only, one between."""
    limits = layout.limits
    middle = np.arange(9, dtype=np.int64) * 97 % limits.vocabulary
    full = np.concatenate([limits.prefix, middle, limits.suffix]).astype(np.int64)
    ids = np.full((3, len(full)), limits.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate((len(full), len(limits.prefix + limits.suffix) or 1, 7)):
        ids[row, :length], mask[row, :length] = full[:length], 1
    return {"input_ids": ids, "attention_mask": mask}


def _longest(layout: Layout) -> tracing.Feed:
    """One row of as many tokens as the model takes, or nearly: a limit that is too high shows."""
    limits = layout.limits
    inner = min(limits.max_tokens, tracing.LONGEST) - len(limits.prefix) - len(limits.suffix)
    middle = np.arange(inner, dtype=np.int64) * 97 % limits.vocabulary
    ids = np.concatenate([limits.prefix, middle, limits.suffix]).astype(np.int64)[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
