"""The JSON schema of `models.toml`, for editors: the catalog's structs, told in their own words."""

import inspect
import re
from typing import Any

import msgspec

from forebay.contract.execution import OnnxOptions, TorchOptions
from forebay.contract.image import ImageTable
from forebay.contract.model import BatchLimits, DriftWatch, LaneLimits, ModelSpec
from forebay.contract.recipe import BuildSpec, DistillSpec
from forebay.contract.signature import SignatureTable
from forebay.contract.versions import OF_THE_MODEL, Version
from forebay.runtime.catalog import CatalogFile
from forebay.runtime.toml_faults import set_by_hand

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ATTRIBUTE = re.compile(r"^    (?P<name>\w+): (?P<text>.*(?:\n {5,}.*)*)", re.MULTILINE)


def catalog_schema() -> dict[str, Any]:
    """What a `models.toml` may hold, in JSON Schema 2020-12.

    msgspec makes it of the very structs that the file is read into; what each field is for comes
    from their docstrings.
    """
    _, parts = msgspec.json.schema_components([CatalogFile], ref_template="#/$defs/{name}")
    for struct in (
        ModelSpec,
        BatchLimits,
        LaneLimits,
        ImageTable,
        BuildSpec,
        DistillSpec,
        DriftWatch,
        TorchOptions,
        OnnxOptions,
        SignatureTable,
        Version,
    ):
        tell(parts[struct.__name__], struct)
    # A version's table takes what its model's takes as well.
    told = parts[ModelSpec.__name__]["properties"]
    inherited = {name: told[name] for name in told if name not in OF_THE_MODEL}
    version = parts[Version.__name__]
    version["properties"] |= {name: _without_default(inherited[name]) for name in inherited}
    version["additionalProperties"] = False
    for part in parts.values():
        part["description"] = summary(part["description"])
    whole = parts.pop(CatalogFile.__name__)
    return {"$schema": DIALECT, **whole, "title": "models.toml", "$defs": parts}


def catalog_schema_text() -> str:
    """The same as text, as it is published in `docs/models.schema.json`."""
    return msgspec.json.format(msgspec.json.encode(catalog_schema()), indent=2).decode() + "\n"


def tell(part: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Describe a struct's fields, and leave out what a file can't say."""
    told = {
        name: text for kind in reversed(struct.__mro__) for name, text in attributes(kind).items()
    }
    by_hand = set_by_hand(struct)
    part["properties"] = {
        name: _as_toml(field) | ({"description": told[name]} if name in told else {})
        for name, field in part["properties"].items()
        if name in by_hand
    }


def _as_toml(field: dict[str, Any]) -> dict[str, Any]:
    """A field as TOML has it, which knows no null: what may be None is left out instead."""
    default = field.get("default")
    unset = default is None or (isinstance(default, dict) and None in default.values())
    kept = {key: value for key, value in field.items() if key != "default" or not unset}
    kinds = [kind for kind in kept.pop("anyOf", ()) if kind != {"type": "null"}]
    return kept | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _without_default(field: dict[str, Any]) -> dict[str, Any]:
    """A field whose default is what another table says."""
    return {key: value for key, value in field.items() if key != "default"}


def attributes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the `Attributes` of a docstring say, each on one line."""
    _, _, listed = inspect.cleandoc(struct.__doc__ or "").partition("Attributes:\n")
    return {
        match["name"]: _sentence(" ".join(match["text"].split()))
        for match in _ATTRIBUTE.finditer(listed)
    }


def summary(docstring: str) -> str:
    """What a docstring says before its `Attributes`, on one line."""
    text = inspect.cleandoc(docstring).partition("Attributes:")[0]
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
