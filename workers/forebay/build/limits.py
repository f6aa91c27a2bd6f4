"""What a Hugging Face folder says about any model of text: its configuration, and its limits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from forebay.build.tracing import quiet
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import TextLimits

_UNLIMITED: Final = 1_000_000
"""A tokenizer whose limit is more than this has none."""

_POSITIONS_AFTER_PADDING: Final = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta",
     "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip
"""Families whose first position comes after the id of the padding, which is taken off the limit."""


def configuration(folder: Path) -> Any:
    """The folder's config.json, as transformers understands it.

    Raises:
        BuildFailed: it is missing or broken, or of a model that transformers doesn't know.
    """
    import transformers

    known: Any = transformers
    try:
        with quiet():
            return known.AutoConfig.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # a wrong value comes as whatever its class raises
        raise BuildFailed(f"{folder / 'config.json'} can't be used: {_line(error)}") from error


def tokenizer_of(folder: Path) -> Any:
    """The folder's tokenizer, as transformers makes it.

    Raises:
        BuildFailed: it is missing or broken.
    """
    import transformers

    known: Any = transformers
    try:
        with quiet():
            return known.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # a wrong value comes as whatever its class raises
        raise BuildFailed(
            f"The tokenizer in {folder} can't be loaded from tokenizer.json and "
            f"tokenizer_config.json: {_line(error)}. Save it again with its `save_pretrained`."
        ) from error


def text_limits(
    folder: Path,
    config: Any,
    tokenizer: Tokenizer,
    *,
    lengths: Iterable[int],
    dimensions: int,
    pad_id: int | None,
) -> TextLimits:
    """What a model of text takes and gives.

    Args:
        folder: where it came from, for errors.
        config: as `configuration` gives it.
        tokenizer: without truncation and padding.
        lengths: that a text may have in tokens, by each file that says so; what is too long to be
            meant counts as unsaid.
        dimensions: of what comes out.
        pad_id: of the padding, if anything says it.

    Raises:
        BuildFailed: nothing says how long a text may be, or too little is left for one; or the
            tokenizer makes no token of an ordinary text.
    """
    bare: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
    full: list[int] = tokenizer.encode("a").ids
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), None)
    if not bare or start is None:
        raise BuildFailed(f"The tokenizer in {folder} makes no token of the text 'a'.")
    longest = [length for length in lengths if length < _UNLIMITED]
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        after = (pad_id or 0) + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0
        longest.append(positions - after)
    if not longest:
        raise BuildFailed(
            f"Neither config.json nor the tokenizer in {folder} says how long a text may be: set "
            "model_max_length in tokenizer_config.json."
        )
    if min(longest) < len(full):
        raise BuildFailed(
            f"A text may have {min(longest)} tokens, says {folder}, and the special tokens alone "
            f"take {len(full) - len(bare)}: see model_max_length in tokenizer_config.json, and "
            "max_position_embeddings in config.json."
        )
    return TextLimits(
        max_tokens=min(longest),
        dimensions=dimensions,
        vocabulary=config.vocab_size,
        pad_id=pad_id or 0,
        prefix=tuple(full[:start]),
        suffix=tuple(full[start + len(bare) :]),
    )


def _line(error: Exception) -> str:
    """An error in one line."""
    told = " ".join(str(error).split())
    return f"{type(error).__name__}: {told[:500]}" if told else type(error).__name__
