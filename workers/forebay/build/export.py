"""PyTorch encoder to FP32 ONNX graph, with pooling and normalisation inside."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto

from forebay.build import graph
from forebay.build.encoder import open_session
from forebay.build.layout import Layout, Pooling
from forebay.contract.errors import BuildFailed

OPSET = 20
"""The first with `Gelu` as one operator, which the quantization looks for."""

_TOLERANCE = 1e-4


def export(folder: Path, layout: Layout, out: Path) -> ModelProto:
    """Write the encoder in `folder` as one ONNX file at `out`, weights inside, and return it.

    Inputs `input_ids` and `attention_mask`, int64 `[rows, tokens]`, both axes dynamic; output
    `embedding`, float32 `[rows, dimensions]`. Attention stays in its parts: ONNX Runtime's fused
    kernels were slower for buckets of short rows on a CPU (decision 0006).

    Raises:
        BuildFailed: the weights can't be loaded or traced, or the graph's output differs from
            PyTorch's by more than 1e-4.
    """
    import torch

    ids, mask = _probe(layout)
    with _quiet(), torch.no_grad():
        encoder = _encoder(folder, layout)
        inputs = torch.from_numpy(ids), torch.from_numpy(mask)
        expected = encoder(*inputs).numpy()
        dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        try:
            program = torch.onnx.export(
                encoder,
                inputs,
                input_names=["input_ids", "attention_mask"],
                output_names=["embedding_"],
                dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise BuildFailed(f"PyTorch can't export the model in {folder}: {error}") from error
    assert program is not None
    model = graph.cleaned(program.model_proto, layout.limits.dimensions)
    onnx.save_model(model, out)
    (got,) = open_session(out, threads=1).run(
        ["embedding"], {"input_ids": ids, "attention_mask": mask}
    )
    difference = float(np.abs(got - expected).max())
    if not difference < _TOLERANCE:
        raise BuildFailed(
            f"The exported graph of {folder} differs from PyTorch by {difference:.2g}; "
            f"{_TOLERANCE:.0e} is allowed."
        )
    return model


def _encoder(folder: Path, layout: Layout) -> Any:
    import torch
    from transformers import AutoModel

    try:
        # "eager" has no data-dependent branch to trace and gives the plainest graph.
        body, loading = AutoModel.from_pretrained(
            str(folder),
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise BuildFailed(f"The model in {folder} can't be loaded: {error}") from error
    # transformers fills what it lacks with random numbers; only a pooler goes unused here.
    for what, keys in (
        ("lack", {key for key in loading["missing_keys"] if not key.startswith("pooler.")}),
        (
            "have another shape than config.json gives for",
            {k[0] for k in loading["mismatched_keys"]},
        ),
    ):
        if keys:
            raise BuildFailed(
                f"The weights in {folder} {what} {min(keys)!r} and {len(keys) - 1} others."
            )

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


def _probe(layout: Layout) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Three rows of different lengths: one full, one of special tokens only, one between."""
    limits = layout.limits
    middle = np.arange(9, dtype=np.int64) * 97 % limits.vocabulary
    full = np.concatenate([limits.prefix, middle, limits.suffix]).astype(np.int64)
    ids = np.full((3, len(full)), limits.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate((len(full), len(limits.prefix + limits.suffix) or 1, 7)):
        ids[row, :length], mask[row, :length] = full[:length], 1
    return ids, mask


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what the exporter and the loader say about themselves away from the user.

    Named one by one: progress bars, the report on weights that `_encoder` judges itself, a log
    line for each optional package that is not installed, and a deprecation inside PyTorch's code.
    """
    from transformers.utils import logging as own_logging

    transformers_logging: Any = own_logging

    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level, bars = registry.level, transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    registry.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.*", FutureWarning)
            yield
    finally:
        registry.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
