"""What a sentence-transformers folder says about its model: pooling, limits, special tokens."""

import json
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import TextLimits
from forebay.contract.network import Pooling


class Layout(msgspec.Struct, frozen=True):
    """How an encoder's output becomes an embedding, and what it takes.

    Attributes:
        pooling: over the tokens that aren't padding.
        normalize: whether the embedding is scaled to unit length.
    """

    pooling: Pooling
    normalize: bool
    limits: TextLimits


def read(folder: Path) -> Layout:
    """Read modules.json, the pooling module, sentence_bert_config.json and the tokenizer.

    Raises:
        BuildFailed: a file is missing or broken, or the model has a part that isn't supported;
            the message names the file.
    """
    modules = _json(folder / "modules.json")
    pooling: Pooling | None = None
    normalize = False
    for module in modules:
        match str(module["type"]).rsplit(".", 1)[-1]:
            case "Transformer" if not module["path"]:
                pass
            case "Pooling":
                pooling = _pooling(folder / module["path"] / "config.json")
            case "Normalize":
                normalize = True
            case other:
                raise BuildFailed(
                    f"{folder / 'modules.json'} names a module {other!r} at {module['path']!r}; "
                    "supported are one Transformer at the top, Pooling and Normalize."
                )
    if pooling is None:
        raise BuildFailed(f"{folder / 'modules.json'} names no Pooling module.")
    return Layout(pooling, normalize, _limits(folder))


def open_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer with truncation and padding off: limits are the manifest's.

    Raises:
        BuildFailed: tokenizer.json can't be loaded.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise BuildFailed(f"{path} can't be loaded: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pooling(path: Path) -> Pooling:
    config = _json(path)
    on = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    on |= {f"pooling_mode_{config['pooling_mode']}"} if "pooling_mode" in config else set()
    if on in ({"pooling_mode_mean_tokens"}, {"pooling_mode_mean"}):
        return Pooling.MEAN
    if on in ({"pooling_mode_cls_token"}, {"pooling_mode_cls"}):
        return Pooling.CLS
    raise BuildFailed(f"{path} asks for {sorted(on) or 'no pooling'}; supported are mean and cls.")


def _limits(folder: Path) -> TextLimits:
    config = _json(folder / "config.json")
    tokenizer = open_tokenizer(folder)
    bare: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
    full: list[int] = tokenizer.encode("a").ids
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    longest = [config["max_position_embeddings"]]
    for name, key in (
        ("tokenizer_config.json", "model_max_length"),
        ("sentence_bert_config.json", "max_seq_length"),
    ):
        if (folder / name).is_file():
            value = _json(folder / name).get(key)
            longest += [int(value)] if value else []
    pad = config.get("pad_token_id")
    return TextLimits(
        max_tokens=min(longest),
        dimensions=config["hidden_size"],
        vocabulary=config["vocab_size"],
        pad_id=0 if pad is None else pad,
        prefix=tuple(full[:start]),
        suffix=tuple(full[start + len(bare) :]),
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BuildFailed(
            f"{path} is missing: an embedding model's folder is one that sentence-transformers "
            "saved."
        ) from None
    except (OSError, ValueError) as error:
        raise BuildFailed(f"{path} can't be read: {error}.") from error
