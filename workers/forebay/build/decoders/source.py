"""Where the weights of a model that generates come from, and whether its kind is built."""

import json
from pathlib import Path
from typing import Any

from forebay.build import source
from forebay.build.decoders import gguf_file
from forebay.build.source import Source
from forebay.contract.errors import BuildFailed
from forebay.contract.model import GGUF_FILE, ModelSpec

FAMILIES = {
    "Gemma2ForCausalLM": "Gemma 2",
    "Gemma3ForCausalLM": "Gemma 3",
    "GemmaForCausalLM": "Gemma",
    "LlamaForCausalLM": "Llama",
    "MistralForCausalLM": "Mistral",
    "Phi3ForCausalLM": "Phi 3",
    "Qwen2ForCausalLM": "Qwen 2",
    "Qwen3ForCausalLM": "Qwen 3",
}
"""What transformers calls the models that are built, and what people do. Each is tested."""

_ROPES = frozenset({"default", "llama3"})
"""How positions are scaled, by transformers' names: those that have been held against PyTorch."""


def find(spec: ModelSpec, work: Path) -> Source:
    """A model's source as a plain Hugging Face folder.

    Args:
        spec: the model.
        work: a folder, in which a GGUF file's weights are written out.

    Raises:
        BuildFailed: it isn't there or is damaged, or is of a kind that isn't built; the message
            names the file.
        OSError: the disk is full or not writable.
    """
    found = plain(spec, work)
    check(found.folder / "config.json")
    return found


def plain(spec: ModelSpec, work: Path) -> Source:
    """A model's source as a plain Hugging Face folder, of whatever family.

    Args:
        spec: the model.
        work: a folder, in which a GGUF file's weights are written out.

    Raises:
        BuildFailed: it isn't there, is damaged, or is quantized already.
        OSError: the disk is full or not writable.
    """
    if spec.source.startswith(GGUF_FILE):
        file = gguf_file.read(spec.source, base=Path(spec.folder))
        found = Source(work / "plain", file.sha256)
        gguf_file.write_out(file, found.folder)
    else:
        found = source.resolve(spec.source, base=Path(spec.folder))
    path = found.folder / "config.json"
    if json.loads(path.read_text("utf-8")).get("quantization_config"):
        raise BuildFailed(
            f"{path} says that the weights are quantized already: name the model that they were "
            "made of, and the build quantizes that."
        )
    return found


def check(path: Path) -> None:
    """Make sure that a model is of a family whose graphs are built.

    Args:
        path: its config.json.

    Raises:
        BuildFailed: it is not.
    """
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    made = [str(name) for name in config.get("architectures") or ["no architecture"]]
    if made[0] not in FAMILIES:
        raise BuildFailed(
            f"{path} is of a {made[0][:80]!r}, and graphs that generate are built of these "
            f"families: {', '.join(FAMILIES.values())}. Take one of those, or have PyTorch run it: "
            '`backend = "torch"`.'
        )
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    # Gemma 3 has two tables, by the kind of layer.
    tables = [one for one in scaling.values() if isinstance(one, dict)] or [scaling]
    for table in tables:
        kind = str(table.get("rope_type") or table.get("type") or "default")
        if kind not in _ROPES:
            raise BuildFailed(
                f"{path} scales positions by {kind[:40]!r}, and supported are "
                f'{", ".join(sorted(_ROPES))}: take a model without, or set `backend = "torch"`.'
            )
