"""How `models.toml` names the class of a python model: by file or by module."""

from pathlib import PurePath

import msgspec

from forebay.contract.errors import ConfigurationError

FORM = "`path/to/file.py:ClassName` or `package.module:ClassName`"


class ClassSource(msgspec.Struct, frozen=True):
    """A class, by name.

    Attributes:
        place: a file's path, relative to the catalog's folder unless absolute; or a module's name.
        name: the class's name in it.
        is_file: whether `place` is a file.
    """

    place: str
    name: str
    is_file: bool

    @classmethod
    def parse(cls, source: str) -> "ClassSource":
        """Understand a model's `source`.

        Raises:
            ConfigurationError: it has neither form.
        """
        place, _, name = source.rpartition(":")
        is_file = PurePath(place).suffix == ".py"
        is_module = all(part.isidentifier() for part in place.split("."))
        if not name.isidentifier() or not (is_file or is_module):
            raise ConfigurationError(f"{source!r} names no class: write {FORM}.")
        return cls(place, name, is_file)
