"""Small files that workers keep for the next of them: one a model, replaced whole.

They are notes, not a source of truth: one that is missing or can't be read is as none.
"""

import contextlib
import logging
import secrets
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)


class Notes(Generic[T]):
    """Notes of one kind, as `<folder>/<model>.json`.

    Args:
        folder: made when first written to.
        kind: of what is kept.
        what: they say, for the log: `what {model} takes`.
    """

    def __init__(self, folder: Path, kind: type[T], *, what: str) -> None:
        self._folder = folder
        self._kind = kind
        self._what = what

    def write(self, model: str, note: T) -> None:
        """Replace a model's. A disk that can't be written to is no reason to stop."""
        part = self._folder / f".part-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.format(msgspec.json.encode(note), indent=2))
            part.replace(self._folder / f"{model}.json")
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            log.warning("%s can't be noted: %s", self._what.format(model=model), error)

    def read(self, model: str) -> T | None:
        """A model's; None if there is none that can be read."""
        try:
            return msgspec.json.decode(
                (self._folder / f"{model}.json").read_bytes(), type=self._kind
            )
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
