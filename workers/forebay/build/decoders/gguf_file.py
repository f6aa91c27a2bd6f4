"""GGUF, llama.cpp's file of weights: found, checked, and written out as a Hugging Face folder.

transformers reads the file and gives the quantized weights their values in FP32.
"""

import contextlib
import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import msgspec

from forebay.build.decoders.words import TOO_NEW_OR_BROKEN
from forebay.build.source import in_package
from forebay.build.tracing import quiet
from forebay.contract.errors import BuildFailed
from forebay.contract.model import GGUF_FILE

ARCHITECTURES = frozenset({"gemma", "gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3"})
"""llama.cpp's names of the families that are built."""

_PACKAGE = "package:"


class GgufFile(msgspec.Struct, frozen=True):
    """A GGUF file that has passed the checks.

    Attributes:
        path: where it is.
        sha256: of its bytes.
        ends: ids of tokens by which a turn or a text ends.
    """

    path: Path
    sha256: str
    ends: tuple[int, ...]


def read(source: str, *, base: Path) -> GgufFile:
    """Find a file and check that it is whole.

    Args:
        source: `gguf:path/to/file.gguf`, or `gguf:package:NAME/FILE.gguf` for one inside an
            installed package, which is not imported.
        base: folder that a path is relative to.

    Raises:
        BuildFailed: there is no such file, it is no GGUF, is cut short, or of an architecture that
            isn't built; the message names the file.
    """
    rest = source.removeprefix(GGUF_FILE)
    path = (
        in_package(rest, form=f"{GGUF_FILE}{_PACKAGE}NAME/FILE.gguf")
        if rest.startswith(_PACKAGE)
        else base / Path(rest).expanduser()
    )
    if not path.is_file():
        raise BuildFailed(f"The source {source!r} is not there: {path} is no file.")
    metadata = _metadata(path)
    architecture = str(metadata["general.architecture"])
    if architecture not in ARCHITECTURES:
        raise BuildFailed(
            f"{path} is of the architecture {architecture[:80]!r}, and GGUF files are built of "
            f"these: {', '.join(sorted(ARCHITECTURES))}."
        )
    ends = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return GgufFile(path, digest, tuple(one for one in ends if isinstance(one, int)))


def _metadata(path: Path) -> dict[str, Any]:
    """What a file says about itself, once it is certain that all of its tensors are there."""
    from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

    try:
        metadata, _ = read_gguf_metadata(str(path))
        header = GgufHeader.from_file(str(path))
        end = max(header.data_start + one.offset + one.nbytes for one in header.tensors)
    except (ValueError, LookupError, struct.error, OverflowError, MemoryError, OSError) as error:
        raise BuildFailed(
            f"{path} is no GGUF file, or is cut short: {_said(error)}. Fetch or copy it again."
        ) from error
    size = path.stat().st_size
    if end > size:
        raise BuildFailed(
            f"{path} is cut short: its tensors end at byte {end:,}, and it has {size:,}. Fetch or "
            "copy it again."
        )
    return metadata


def write_out(file: GgufFile, folder: Path) -> None:
    """Write weights in FP32, configuration, tokenizer and chat template as transformers saves them.

    Args:
        file: what to convert.
        folder: where; made here.

    Raises:
        BuildFailed: transformers can't read it.
        OSError: the disk is full or not writable.
    """
    import torch
    import transformers

    known: Any = transformers
    where: dict[str, Any] = {"gguf_file": file.path.name, "local_files_only": True}
    try:
        # Its own bar, which `quiet` knows nothing of.
        with quiet(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            loaded = known.AutoModelForCausalLM.from_pretrained(
                str(file.path.parent), dtype=torch.float32, **where
            )
            tokenizer = known.AutoTokenizer.from_pretrained(str(file.path.parent), **where)
            # transformers doesn't save what it has read from a GGUF, unless that is forgotten.
            loaded.hf_quantizer.remove_quantization_config(loaded)
            loaded.generation_config.eos_token_id = list(file.ends) or None
            loaded.save_pretrained(str(folder))
            tokenizer.save_pretrained(str(folder))
    except TOO_NEW_OR_BROKEN as error:
        raise BuildFailed(f"The model in {file.path} can't be loaded: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
