"""What a sentence-transformers folder says about its model: pooling, limits, special tokens."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tokenizers import Tokenizer

from forebay.build.limits import configuration, text_limits
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import TextLimits
from forebay.contract.network import Pooling

T = TypeVar("T")


class Layout(msgspec.Struct, frozen=True):
    """How an encoder's output becomes an embedding, and what it takes.

    Attributes:
        pooling: over the tokens that aren't padding.
        normalize: whether the embedding is scaled to unit length.
    """

    pooling: Pooling
    normalize: bool
    limits: TextLimits


class _Module(msgspec.Struct):
    """A part of the model, as modules.json has it."""

    type: str
    path: str = ""


class _Transformer(msgspec.Struct):
    """What sentence_bert_config.json says."""

    max_seq_length: int | None = None
    do_lower_case: bool = False


class _Tokenizer(msgspec.Struct):
    """What of tokenizer_config.json counts here; transformers writes 1e30 where nothing does."""

    model_max_length: int | float | None = None


class _Library(msgspec.Struct):
    """What of config_sentence_transformers.json changes an embedding."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None


def read(folder: Path) -> Layout:
    """Read what sentence-transformers saves: its modules, their settings, and the tokenizer.

    Raises:
        BuildFailed: a file is missing or broken, or the model has a part or a setting that isn't
            supported; the message names the file.
    """
    path = folder / "modules.json"
    pooling: Pooling | None = None
    normalize = False
    for module in _read(path, list[_Module]):
        match module.type.rsplit(".", 1)[-1]:
            case "Transformer" if not module.path:
                pass
            case "Pooling":
                pooling = _pooling(folder / module.path / "config.json")
            case "Normalize":
                normalize = True
            case other:
                raise BuildFailed(
                    f"{path} names a module {other!r} at {module.path!r}; supported are one "
                    "Transformer at the top, Pooling and Normalize."
                )
    if pooling is None:
        raise BuildFailed(f"{path} names no Pooling module.")
    _refuse_prompts(folder / "config_sentence_transformers.json")
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
    config = _read(path, dict[str, Any])
    on = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    on |= {f"pooling_mode_{config['pooling_mode']}"} if "pooling_mode" in config else set()
    if on in ({"pooling_mode_mean_tokens"}, {"pooling_mode_mean"}):
        return Pooling.MEAN
    if on in ({"pooling_mode_cls_token"}, {"pooling_mode_cls"}):
        return Pooling.CLS
    raise BuildFailed(f"{path} asks for {sorted(on) or 'no pooling'}; supported are mean and cls.")


def _refuse_prompts(path: Path) -> None:
    """A text that sentence-transformers would put before each row: who asks has to send it."""
    said = _read(path, _Library) if path.is_file() else _Library()
    if said.default_prompt_name is None:
        return
    prompt = (said.prompts or {}).get(said.default_prompt_name, "")
    if prompt:
        raise BuildFailed(
            f"{path} puts the prompt {prompt!r} before every text (default_prompt_name), and a "
            "worker adds nothing to a text: set it to null, and have clients send the prompt."
        )


def _refuse_lower_case(path: Path, tokenizer: Tokenizer) -> None:
    """Lower case that is made before the tokenizer, unless the tokenizer makes it as well."""
    probe = "A Big ÄRGER at the CAFÉ, ΑΘΗΝΑ, МОСКВА."
    if tokenizer.encode(probe).ids != tokenizer.encode(probe.lower()).ids:
        raise BuildFailed(
            f"{path} has texts made lower case (do_lower_case), and tokenizer.json doesn't do "
            "that: add a Lowercase normalizer to it, or set do_lower_case to false."
        )


def _limits(folder: Path) -> TextLimits:
    config = configuration(folder)
    tokenizer = open_tokenizer(folder)
    lengths: list[int] = []
    path = folder / "tokenizer_config.json"
    if path.is_file() and (most := _read(path, _Tokenizer).model_max_length):
        lengths.append(int(most))
    path = folder / "sentence_bert_config.json"
    if path.is_file():
        said = _read(path, _Transformer)
        lengths += [said.max_seq_length] if said.max_seq_length else []
        if said.do_lower_case:
            _refuse_lower_case(path, tokenizer)
    return text_limits(
        folder,
        config,
        tokenizer,
        lengths=lengths,
        dimensions=config.hidden_size,
        pad_id=config.pad_token_id,
    )


def _read(path: Path, form: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except FileNotFoundError:
        raise BuildFailed(
            f"{path} is missing: an embedding model's folder is one that sentence-transformers "
            "saved."
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BuildFailed(f"{path} can't be read: {error}.") from error
