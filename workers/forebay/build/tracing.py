"""PyTorch to FP32 ONNX graph: load a model's weights, trace it, and check the graph against it."""

import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto

from forebay.build import graph
from forebay.build.encoder import open_session
from forebay.contract.errors import BuildFailed

OPSET = 20
"""The first with `Gelu` as one operator, which the quantization looks for."""

TOLERANCE = 1e-4
"""Largest difference of a graph's output to PyTorch's."""

LONGEST = 1_024
"""Most tokens of the rows that a graph is tried on: attention takes their square in memory. Whether
there are positions for longer ones is told by the size of their table."""

_TABLES = frozenset({"embed_positions", "position_embedding", "position_embeddings", "wpe"})
"""What transformers' models call their tables of absolute positions."""

Feed = Mapping[str, npt.NDArray[np.int64]]
"""Values of a graph's inputs, by name, each `[rows, tokens]`."""


def trace(
    module: Any,
    feeds: Sequence[Feed],
    out: Path,
    *,
    output: str,
    shape: Sequence[str | int],
    most: int,
    folder: Path,
) -> ModelProto:
    """Write a module as one ONNX file at `out`, weights inside, and return it.

    Args:
        module: takes the feeds' inputs by name, and gives one tensor.
        feeds: the first is what is traced; the graph is compared with the module on all of them,
            where the module gets each row by itself, without its padding.
        out: the file.
        output: what to call the output.
        shape: of the output; names where an axis is dynamic.
        most: tokens of a row.
        folder: where the model came from, for errors.

    Raises:
        BuildFailed: the model has fewer positions than tokens, or can't be traced, or the graph's
            output differs from PyTorch's by more than 1e-4.
    """
    check_positions(module, most, folder=folder)
    names = list(feeds[0])
    exported = program(module, feeds[0], axes=(0, 1), output=output, folder=folder)
    model = graph.cleaned(exported, inputs=names, output=output, shape=shape)
    onnx.save_model(model, out)
    session = open_session(out, threads=1)
    difference = 0.0
    for feed in feeds:
        try:
            (got,) = session.run([output], dict(feed))
        except Exception as error:  # ONNX Runtime's errors have no common class
            width = feed["attention_mask"].shape[1]
            raise BuildFailed(
                f"The exported graph of {folder} fails on rows of {width} tokens: a text may be "
                "shorter than the folder says (model_max_length in tokenizer_config.json, "
                f"max_position_embeddings in config.json). {error}"
            ) from error
        for index, expected in enumerate(_alone(module, feed)):
            own = got[index][: len(expected)] if expected.ndim > 1 else got[index]
            difference = max(difference, float(np.abs(own - expected).max()))
    if not difference < TOLERANCE:
        raise BuildFailed(
            f"The exported graph of {folder} differs from PyTorch by {difference:.2g}; "
            f"{TOLERANCE:.0e} is allowed."
        )
    return model


def check_positions(module: Any, most: int, *, folder: Path) -> None:
    """Make sure that no table of a module's positions ends before its longest rows do.

    Args:
        module: in PyTorch.
        most: tokens of a row.
        folder: where the model came from, for errors.

    Raises:
        BuildFailed: one does, by its own shape.
    """
    import torch

    for name, table in module.named_modules():
        if name.rpartition(".")[2] not in _TABLES or not isinstance(table, torch.nn.Embedding):
            continue
        # Where padding has a place in the table, positions begin after it.
        first = 0 if table.padding_idx is None else table.padding_idx + 1
        if table.num_embeddings - first < most:
            raise BuildFailed(
                f"The model in {folder} has positions for {table.num_embeddings - first:,} tokens, "
                f"and a text may have {most:,}: correct model_max_length in tokenizer_config.json, "
                "or max_position_embeddings in config.json."
            )


def program(
    module: Any,
    feed: Mapping[str, npt.NDArray[Any]],
    *,
    axes: Sequence[int],
    output: str,
    folder: Path,
) -> ModelProto:
    """A module as PyTorch exports it, to be cleaned.

    Args:
        module: takes the feed's inputs by name, and gives one tensor.
        feed: what is traced.
        axes: of each input that are dynamic.
        output: what to call the output.
        folder: where the model came from, for errors.

    Raises:
        BuildFailed: the model can't be traced.
    """
    import torch

    names = list(feed)
    with quiet(), torch.no_grad():
        inputs = {name: torch.from_numpy(value) for name, value in feed.items()}
        # One dictionary an input: a shared one is taken for one object and refused.
        dynamic = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name in names}
        try:
            made = torch.onnx.export(
                module,
                kwargs=inputs,
                input_names=names,
                output_names=[f"{output}_"],
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise BuildFailed(f"PyTorch can't export the model in {folder}: {error}") from error
    assert made is not None
    return made.model_proto


def _alone(module: Any, feed: Feed) -> list[npt.NDArray[np.float32]]:
    """What PyTorch makes of each row by itself."""
    import torch

    results: list[npt.NDArray[np.float32]] = []
    with torch.no_grad():
        for index, length in enumerate(feed["attention_mask"].sum(1)):
            row = {
                name: torch.from_numpy(v[index : index + 1, :length]) for name, v in feed.items()
            }
            results.append(module(**row)[0].numpy())
    return results


def load(kind: str, folder: Path, *, unused: tuple[str, ...] = ()) -> Any:
    """A model with its weights, in FP32.

    Args:
        kind: of transformers' Auto classes, such as `AutoModel`.
        folder: config.json and safetensors.
        unused: beginnings of the names of weights that may be missing.

    Raises:
        BuildFailed: the weights can't be loaded, or don't fit the configuration.
    """
    import torch
    import transformers

    try:
        # "eager" has no data-dependent branch to trace and gives the plainest graph.
        model, loading = getattr(transformers, kind).from_pretrained(
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
    # transformers fills what it lacks with random numbers.
    for what, keys in (
        ("lack", {key for key in loading["missing_keys"] if not key.startswith(unused)}),
        (
            "have another shape than config.json gives for",
            {k[0] for k in loading["mismatched_keys"]},
        ),
    ):
        if keys:
            raise BuildFailed(
                f"The weights in {folder} {what} {min(keys)!r} and {len(keys) - 1} others."
            )
    return model.eval()


@contextmanager
def quiet() -> Generator[None]:
    """Keep what the exporter and the loader say about themselves away from the user.

    Named one by one: progress bars, the report on weights that `load` judges itself, a log
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
