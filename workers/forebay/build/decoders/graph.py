"""A Hugging Face folder to an ONNX graph, by ONNX Runtime GenAI's model builder.

The builder is a program: imported, it would add its own folder to Python's path, under which such
names as `quantization` lie. So it runs in a process of its own, which also gives back all of the
memory that the weights took. What it leaves is a graph and one file of weights beside it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from forebay.build.decoders.words import Words
from forebay.build.graph import MODEL_FILE, WEIGHTS_FILE
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Decoder
from forebay.contract.model import Precision

_BUILDER = "onnxruntime_genai.models.builder"

_OPTIONS = ("hf_token=false", "hf_remote=false", "windowed_kv_cache=false")
"""What the builder is told: no network, no code from the folder, and as many keys and values kept in
layers that look at the last tokens only as in others, so that all slots are alike."""

_QUANTIZING: dict[Precision, tuple[str, ...]] = {}
"""What else, by precision; decision 0037 has what was measured."""

_CACHE_TYPES = {"tensor(float)": "FP32", "tensor(float16)": "FP16"}
_OWN_INPUTS = frozenset({"input_ids", "attention_mask"})
_LAST_WORDS = 400


def make(source: Path, folder: Path, *, precision: Precision, work: Path) -> None:
    """Write `model.onnx` and `weights.bin`.

    The same source and library versions give the same bytes.

    Args:
        source: a Hugging Face folder.
        folder: where to.
        precision: of the weights.
        work: an empty folder for what the builder writes.

    Raises:
        BuildFailed: the builder failed; the message has its last words.
        OSError: the disk is full or not writable.
    """
    made = work / "made"
    command = [sys.executable, "-m", _BUILDER, "-i", str(source), "-o", str(made),
               "-p", precision.value, "-e", "cpu", "-c", str(work / "cache"),
               "--extra_options", *_OPTIONS, *_QUANTIZING.get(precision, ())]  # fmt: skip
    ran = subprocess.run(  # noqa: S603 - our own environment
        command,
        # Sets of names have another order in each process, unless they are told not to.
        env={**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode or not (made / MODEL_FILE).is_file():
        words = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise BuildFailed(
            f"ONNX Runtime GenAI's builder can't make a graph of {source} in "
            f"{precision.value}: {words[-1][-_LAST_WORDS:]}"
        )
    _take(made / MODEL_FILE, folder)


def _take(made: Path, folder: Path) -> None:
    """Move the graph into an artifact's folder, without a trace of where it was made."""
    model: ModelProto = onnx.load(str(made), load_external_data=False)
    graph: Any = model.graph
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    outside: set[str] = set()
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
        if tensor.data_location == TensorProto.EXTERNAL:
            place = next(entry for entry in tensor.external_data if entry.key == "location")
            outside.add(place.value)
            place.value = WEIGHTS_FILE
    del graph.metadata_props[:], model.metadata_props[:]
    graph.doc_string = model.doc_string = ""
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    (name,) = outside
    (made.parent / name).replace(folder / WEIGHTS_FILE)


def describe(path: Path, config: Mapping[str, Any], words: Words) -> Decoder:
    """How a graph is run.

    Args:
        path: the graph.
        config: of its source, config.json.
        words: of its source.

    Raises:
        BuildFailed: it is none that a worker can run: it takes more than tokens, a mask, and keys
            and values that are alike in all layers.
    """
    session: Any = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {one.name: one for one in session.get_inputs()}
    logits = next((one for one in session.get_outputs() if one.name == "logits"), None)
    layers = sum(name.endswith(".key") for name in inputs)
    names = {f"past_key_values.{n}.{kind}" for n in range(layers) for kind in ("key", "value")}
    caches = {(inputs[name].shape[1], inputs[name].type) for name in names if name in inputs}
    if logits is None or set(inputs) != names | _OWN_INPUTS or len(caches) != 1:
        raise BuildFailed(
            f"The graph takes {', '.join(sorted(set(inputs) - names))}, and keys and values of "
            f"{len(caches)} shapes, where a worker gives it {', '.join(sorted(_OWN_INPUTS))} and "
            "keys and values of one shape: this model can't be served this way."
        )
    ((kv_heads, kind),) = caches
    # The graph leaves this open, for keys and values that are packed.
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return Decoder(
        layers=layers,
        kv_heads=int(kv_heads),
        head_size=int(head_size),
        cache_type=_CACHE_TYPES[kind],
        context=int(config["max_position_embeddings"]),
        vocabulary=int(logits.shape[2]),
        end_ids=words.end_ids,
        chat=words.template is not None,
        bos=words.bos,
        eos=words.eos,
    )
