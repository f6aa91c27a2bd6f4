"""A Hugging Face folder to the graph of an artifact: made, freed of traces, and described."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from forebay.build.decoders import builder
from forebay.build.decoders.builder import Job
from forebay.build.decoders.words import Words
from forebay.build.graph import MODEL_FILE, WEIGHTS_FILE
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Decoder
from forebay.contract.model import Precision

OPTIONS = {
    # A CPU's grouped attention norms no queries and keys; nodes before it do for both.
    Precision.FP16: ("fuse_qk_norm_gqa=false",),
    # The largest blocks with which a row has the same bits in any company (decision 0050).
    Precision.INT8: ("algo_config=rtn", "is_symmetric=false", "block_size=64"),
    Precision.INT4: (
        "algo_config=rtn",
        "is_symmetric=false",
        "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8",
    ),
}
"""What the builder is told beside the precision; decision 0037 has what was measured."""

_CACHE_TYPES = {"tensor(float)": "FP32", "tensor(float16)": "FP16"}
_OWN_INPUTS = frozenset({"input_ids", "attention_mask"})


def make(source: Path, folder: Path, *, precision: Precision, work: Path) -> None:
    """Write `model.onnx` and `weights.bin`.

    The same source and library versions give the same bytes.

    Args:
        source: a Hugging Face folder.
        folder: where to.
        precision: of the weights.
        work: a folder for what the builder writes.

    Raises:
        BuildFailed: the builder can't make it; the message has its reason.
        OSError: the disk is full or not writable.
    """
    out = work / "made"
    builder.run([Job(str(source), str(out), precision, OPTIONS.get(precision, ()))])
    take(out, folder)


def take(made: Path, folder: Path) -> None:
    """Move what the builder made into an artifact's folder, without a trace of where that was.

    Args:
        made: the builder's folder.
        folder: the artifact's.
    """
    model: ModelProto = onnx.load(str(made / MODEL_FILE), load_external_data=False)
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
    (made / name).replace(folder / WEIGHTS_FILE)


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
        context=_context(path, config),
        vocabulary=int(logits.shape[2]),
        end_ids=words.end_ids,
        chat=words.template is not None,
        bos=words.bos,
        eos=words.eos,
    )


def _context(path: Path, config: Mapping[str, Any]) -> int:
    """Most tokens of a text: as long as one for which the graph does what the model does.

    Some families' graphs leave out that the model looks at the last tokens only. Up to that many it
    makes no difference.
    """
    longest = int(config["max_position_embeddings"])
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return longest
    model: ModelProto = onnx.load(str(path), load_external_data=False)
    windows = {
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "GroupQueryAttention" and attribute.name == "local_window_size"
    }
    return longest if int(window) in windows else min(longest, int(window))
