"""The model catalog: `models.toml`, read and checked."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from forebay.contract.errors import ConfigurationError, NotFound
from forebay.contract.model import NAME_PATTERN, NOT_IN_A_FILE, ModelSpec
from forebay.contract.model_rules import checked
from forebay.contract.rows import Task
from forebay.contract.steps import check_steps
from forebay.contract.versions import (
    BETWEEN,
    OF_A_VERSION,
    OF_THE_MODEL,
    VERSION_PATTERN,
    Version,
    served_name,
)
from forebay.runtime.toml_faults import Field, explained, no_such_field, set_by_hand, wrong


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `models.toml`: one table for each model, `[models.NAME]`."""

    models: Annotated[
        dict[Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")], ModelSpec], Meta(min_length=1)
    ]


class _Unread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `CatalogFile` whose tables are read one by one, so that an error can name the model."""

    models: dict[str, Any] = {}


class Catalog:
    """The models of this installation, by name.

    Args:
        models: spec of each model, under its own name.
        versions: spec of each version beside a model's own table, under `MODEL@VERSION`.

    Attributes:
        models: likewise.
        served: whatever has lanes of its own: each model's own table, under the model's name and
            as a version among others, and the versions.
    """

    def __init__(
        self, models: Mapping[str, ModelSpec], versions: Mapping[str, ModelSpec] | None = None
    ) -> None:
        self.models: Mapping[str, ModelSpec] = MappingProxyType(dict(models))
        own = {name: _alone(spec) for name, spec in models.items()}
        self.served: Mapping[str, ModelSpec] = MappingProxyType(own | dict(versions or {}))

    @property
    def wanted(self) -> list[ModelSpec]:
        """What has workers: every model's own table, and versions that get requests or copies.

        A version without either gets a worker when somebody starts one.
        """
        found: list[ModelSpec] = []
        for name, spec in self.models.items():
            wanted = [key for key, told in spec.versions.items() if told.weight or told.shadow]
            found += [self.served[name], *(self.version(spec, key) for key in wanted)]
        return found

    def find(self, name: str) -> ModelSpec:
        """The spec of a model, or of one version of it: `minilm`, `minilm@v2`.

        Raises:
            NotFound: there is none of that name; the message lists those there are.
        """
        spec = self.models.get(name)
        return self._version(name) if spec is None else spec

    def version(self, model: ModelSpec, version: str) -> ModelSpec:
        """The spec of a model's version, by its name, which must be there."""
        own = version == model.version
        return self.served[model.name if own else served_name(model.name, version)]

    def _version(self, name: str) -> ModelSpec:
        model, at, version = name.partition(BETWEEN)
        spec = self.models.get(model)
        if spec is None or not at:
            raise NotFound(
                f"There is no model {name[:80]!r} here. Models: {', '.join(sorted(self.models))}.",
                param="model",
            )
        if version not in spec.shares:
            raise NotFound(
                f"{model!r} has no version {version[:80]!r}. Versions: {', '.join(spec.shares)}.",
                param="model",
            )
        return self.version(spec, version)


def read(path: Path) -> Catalog:
    """Read a catalog.

    Raises:
        ConfigurationError: no such file, not TOML, or a field is wrong; the message names the
            model, the field, and the line where it is.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors begin with a byte order mark
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no model catalog at {path}. Run from the project's folder, or set "
            "FOREBAY_MODELS_FILE."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}.") from error
    try:
        file = msgspec.convert(tomllib.loads(text), _Unread)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply.") from None
    except msgspec.ValidationError as error:
        raise wrong(path, text, *explained(error, _Unread, {})) from error
    if not file.models:
        raise ConfigurationError(f"{path} names no model: add a [models.NAME] table.")
    models: dict[str, ModelSpec] = {}
    versions: dict[str, ModelSpec] = {}
    for name, table in file.models.items():
        for spec in _with_versions(path, text, name, table):
            (versions if BETWEEN in spec.name else models)[spec.name] = spec
    try:
        check_steps(models, versions)
    except ConfigurationError as error:
        _, _, what = error.message.partition(": ")
        name, _, version = (error.param or "").partition(BETWEEN)
        table = ("models", name, "versions", version) if version else ("models", name)
        raise wrong(path, text, (*table, "steps"), what.removesuffix(".")) from error
    for spec in (*models.values(), *versions.values()):
        semantic = spec.cache.semantic
        if semantic is None:
            continue
        embedder = models.get(semantic.model)
        if embedder is None or embedder.task is not Task.EMBEDDING:
            name, _, version = spec.name.partition(BETWEEN)
            table = ("models", name, "versions", version) if version else ("models", name)
            rule = f"must be a model of this catalog that embeds texts; {semantic.model!r} is none"
            raise wrong(path, text, (*table, "cache", "semantic", "model"), rule)
    return Catalog(models, versions)


def _with_versions(path: Path, text: str, name: str, table: Any) -> list[ModelSpec]:
    """A model's spec, and after it those of its versions."""
    tables = table.get("versions") if isinstance(table, dict) else None
    if not isinstance(tables, dict) or not tables:
        return [_spec(path, text, name, table)]
    own = {key: value for key, value in table.items() if key != "versions"}
    told = {key: _told(path, text, name, key, version) for key, version in tables.items()}
    model = _spec(path, text, name, own | {"versions": told})
    found = [model]
    for version in told:
        merged = _merged(own, tables[version]) | {"version": version}
        where = ("models", name, "versions", version)
        spec = _spec(path, text, name, merged, where=where)
        found.append(msgspec.structs.replace(spec, name=served_name(name, version)))
    return found


def _told(path: Path, text: str, model: str, version: str, table: Any) -> dict[str, Any]:
    """What a version's table says of the version; what else it says must be fields of a model's."""
    where = ("models", model, "versions", version)
    if not re.fullmatch(VERSION_PATTERN, version):
        rule = "a version's name is 1 to 31 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        raise wrong(path, text, where, rule)
    if not isinstance(table, dict):
        raise wrong(path, text, where, "must be a table")
    for field in table:
        if field in OF_THE_MODEL:
            raise wrong(path, text, (*where, field), "that is the model's, for all its versions")
        if field not in OF_A_VERSION and field not in set_by_hand(ModelSpec):
            fields = (*Version.__struct_fields__, *set_by_hand(ModelSpec))
            there = ", ".join(one for one in fields if one not in OF_THE_MODEL)
            raise wrong(path, text, (*where, field), f"there is no such field; there are {there}")
    told = {key: value for key, value in table.items() if key in OF_A_VERSION}
    try:
        msgspec.convert(told, Version)
    except msgspec.ValidationError as error:
        field, what = explained(error, Version, told)
        raise wrong(path, text, (*where, *field), what) from error
    return told


def _merged(own: Mapping[str, Any], version: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own table with a version's over it; of tables in both, field by field."""
    merged = dict(own)
    for key, value in version.items():
        beneath = own.get(key)
        if isinstance(beneath, dict) and isinstance(value, dict):
            merged[key] = {**beneath, **value}
        elif key not in OF_A_VERSION:
            merged[key] = value
    return merged


def _alone(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(spec, versions={}) if spec.versions else spec


def _spec(path: Path, text: str, name: str, table: Any, *, where: Field | None = None) -> ModelSpec:
    where = where or ("models", name)
    for own in NOT_IN_A_FILE if isinstance(table, dict) else ():
        if own in table:
            raise wrong(path, text, (*where, own), no_such_field(ModelSpec))
    try:
        spec = msgspec.convert(table, ModelSpec)
        if "precision" not in table:
            spec = msgspec.structs.replace(spec, precision=spec.default_precision)
        spec = checked(spec, name)
    except msgspec.ValidationError as error:
        field, what = explained(error, ModelSpec, table)
        raise wrong(path, text, (*where, *field), what) from error
    except ConfigurationError as error:
        inner, _, what = error.message.removeprefix(f"models.{name}").partition(": ")
        field = (*where, *inner.split(".")[1:])
        raise wrong(path, text, field, what.removesuffix(".")) from error
    return msgspec.structs.replace(spec, folder=str(path.absolute().parent))
