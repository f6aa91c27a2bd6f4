"""What `forebay models tune` settled on, and on which machine.

    <home>/tuned/<model>/tuning.json     written by the tuning, read by whoever lists models

A note, not a source of truth: where it is missing or can't be read, nothing is known.
"""

from pathlib import Path
from typing import Any

import msgspec

FORMAT_VERSION = 1


class Tuning(msgspec.Struct, frozen=True):
    """The settings that a tuning chose.

    Attributes:
        model: its name.
        machine: what it was done on, as `runtime.processor.describe` tells it.
        at: when, UTC, ISO 8601.
        settings: by the field's name in `models.toml`, tables with a dot: `batch.max_rows`.
        goals: what was asked, in words.
        why: they were chosen, one sentence.
    """

    model: str
    machine: str
    at: str
    settings: dict[str, Any]
    goals: str
    why: str
    format: int = FORMAT_VERSION

    def says(self, spec: object) -> bool:
        """Whether a model's spec has these settings."""
        return all(self._value(spec, field) == one for field, one in self.settings.items())

    @staticmethod
    def _value(spec: object, field: str) -> Any:
        for name in field.split("."):
            spec = getattr(spec, name, None)
        return msgspec.to_builtins(spec)


class Tunings:
    """Tunings under one home folder.

    Args:
        home: the folder.
    """

    def __init__(self, home: str | Path) -> None:
        self._root = Path(home) / "tuned"

    def folder(self, model: str) -> Path:
        """Where what belongs to a model's tuning lies."""
        return self._root / model

    def write(self, tuning: Tuning) -> None:
        """Replace a model's.

        Raises:
            OSError: it can't be written.
        """
        folder = self.folder(tuning.model)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / ".tuning.json"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(tuning), indent=2) + b"\n")
        part.replace(folder / "tuning.json")

    def read(self, model: str) -> Tuning | None:
        """A model's; None if there is none, or none that can be read."""
        try:
            found = msgspec.json.decode(
                (self.folder(model) / "tuning.json").read_bytes(), type=Tuning
            )
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return found if (found.model, found.format) == (model, FORMAT_VERSION) else None
