"""The chosen settings as TOML: a snippet to paste, or written into `models.toml`.

tomlkit keeps comments, order and layout. What it makes is read again before the file is replaced:
nothing but the chosen settings of this one model may have changed.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, AoT, InlineTable, Table

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec
from forebay.contract.versions import BETWEEN
from forebay.runtime import catalog
from forebay.tune.space import fields, value

Changes = dict[tuple[str, ...], Any]


def chosen(spec: ModelSpec) -> Changes:
    """What a tuning has settled of a model, by field."""
    return {field: msgspec.to_builtins(value(spec, field)) for field in fields(spec)}


def snippet(spec: ModelSpec) -> str:
    """The settings of a candidate, to be pasted into `models.toml`."""
    document = tomlkit.document()
    table: Any = document
    *above, last = _table_of(spec.name)
    for name in above:
        table = table.setdefault(name, tomlkit.table(is_super_table=True))
    table = table.setdefault(last, tomlkit.table())
    for field, one in chosen(spec).items():
        _set(table, field, one)
    return tomlkit.dumps(document)


class Edit:
    """A `models.toml` with other settings of one model, checked and not yet written.

    Args:
        path: the file.
        spec: the candidate.

    Raises:
        ConfigurationError: the file can't be read or written, or can't be changed without changing
            more than it should.
    """

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        self._path = path.resolve()
        before = catalog.read(path)
        current = before.find(spec.name)
        try:
            document = tomlkit.parse(self._path.read_text("utf-8"))
            table: Any = document
            for name in _table_of(spec.name):
                table = table[name]
            for field, one in chosen(spec).items():
                if msgspec.to_builtins(value(current, field)) != one:
                    _set(table, field, one)
            self._text = tomlkit.dumps(document)
            self._check(before, spec)
        except (TOMLKitError, OSError, ValueError, ConfigurationError) as error:
            raise ConfigurationError(
                f"{path} can't be changed ({str(error).rstrip('.')}): paste the settings by hand."
            ) from error

    def write(self) -> None:
        """Replace the file, all of it or nothing.

        Raises:
            ConfigurationError: it can't be written.
        """
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", newline="", dir=self._path.parent, prefix=".models-",
                delete=False,
            ) as part:  # fmt: skip
                part.write(self._text)
                part.flush()
                os.fsync(part.fileno())
            try:
                shutil.copymode(self._path, part.name)
                Path(part.name).replace(self._path)
            except OSError:
                Path(part.name).unlink()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{self._path} can't be written ({error.strerror}): paste the settings by hand."
            ) from error

    def _check(self, before: catalog.Catalog, spec: ModelSpec) -> None:
        """Make sure that the new text says what it should, and nothing else."""
        if not os.access(self._path, os.W_OK) or not os.access(self._path.parent, os.W_OK):
            raise PermissionError("it, or its folder, is not writable")
        with tempfile.TemporaryDirectory(prefix="forebay-models-") as folder:
            copy = Path(folder) / self._path.name
            copy.write_text(self._text, "utf-8")
            after = catalog.read(copy)
        expected = {**before.served, spec.name: _with(before.served[spec.name], chosen(spec))}
        changed = [name for name in expected if _bare(expected[name]) != _bare(after.served[name])]
        if changed or _shares(before) != _shares(after):
            raise ConfigurationError(
                f"{', '.join(changed) or 'shares'} would change with it, as versions that say "
                "nothing else do"
            )


def _with(spec: ModelSpec, changes: Changes) -> ModelSpec:
    """A spec with other values in some fields."""
    told = msgspec.to_builtins(spec)
    for (*tables, name), one in changes.items():
        table = told
        for step in tables:
            table = table[step]
        table[name] = one
    return msgspec.convert(told, ModelSpec)


def _table_of(name: str) -> tuple[str, ...]:
    """The keys of a model's table, or of its version's."""
    model, at, version = name.partition(BETWEEN)
    return ("models", model, "versions", version) if at else ("models", model)


def _shares(of: catalog.Catalog) -> dict[str, dict[str, float]]:
    return {name: spec.shares for name, spec in of.models.items()}


def _bare(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(spec, folder="")


def _set(table: Any, field: tuple[str, ...], one: Any) -> None:
    *tables, name = field
    for step in tables:
        if step not in table:
            inline = isinstance(table, InlineTable)
            table[step] = tomlkit.inline_table() if inline else tomlkit.table()
        table = table[step]
    last = _last_value(table)
    if name in table or last is None:
        table[name] = one
    else:
        # Put at its end, it would come between the next table and that one's comment.
        table.value._insert_after(last, name, tomlkit.item(one))


def _last_value(table: Any) -> str | None:
    """The last key of a table's own that is no table; None where order is of no matter."""
    if not isinstance(table, Table):
        return None
    keys = [key for key, one in table.items() if not isinstance(one, AbstractTable | AoT)]
    return str(keys[-1]) if keys else None
