"""The model catalog: `models.toml`, read and checked."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from forebay.contract.errors import ConfigurationError, NotFound
from forebay.contract.model import ModelSpec


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, ModelSpec]


class Catalog:
    """The models of this installation, by name.

    Args:
        models: spec of each model, under its own name.
    """

    def __init__(self, models: Mapping[str, ModelSpec]) -> None:
        self.models: Mapping[str, ModelSpec] = MappingProxyType(dict(models))

    def find(self, name: str) -> ModelSpec:
        """The spec of a model.

        Raises:
            NotFound: there is none of that name; the message lists those there are.
        """
        spec = self.models.get(name)
        if spec is None:
            raise NotFound(
                f"There is no model {name[:80]!r} here. Models: {', '.join(sorted(self.models))}.",
                param="model",
            )
        return spec


def read(path: Path) -> Catalog:
    """Read a catalog.

    Raises:
        ConfigurationError: no such file, not TOML, or a field is wrong; the message names it.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no model catalog at {path}. Run from the project's folder, or set "
            "FOREBAY_MODELS_FILE."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}.") from error
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {error}.") from error
    if not file.models:
        raise ConfigurationError(f"{path} names no model: add a [models.NAME] table.")
    return Catalog({name: spec.checked(name) for name, spec in file.models.items()})
