"""What models take in a worker, as measured there: memory, and the time of a load.

    <home>/footprints/<model>.json      written and read by workers

Notes, not a source of truth: where one is missing, can't be read or is of another version, the
worker estimates.
"""

from pathlib import Path

import msgspec

from forebay.storage.notes import Notes

FORMAT_VERSION = 1


class Footprint(msgspec.Struct, frozen=True):
    """What one model took.

    Attributes:
        model: its name.
        source: what it was made of, as `models.toml` says it.
        version: short digest of the artifact.
        bytes: by which the worker grew, with what work came to if that is known.
        load_bytes: by which it grew with the load alone.
        load_s: time that loading and warming took, seconds.
    """

    model: str
    source: str
    version: str
    bytes: int
    load_bytes: int
    load_s: float
    format: int = FORMAT_VERSION


class Footprints:
    """Footprints under one home folder.

    Args:
        home: the folder; made when first written to.
    """

    def __init__(self, home: str | Path) -> None:
        self._notes = Notes(Path(home) / "footprints", Footprint, what="what {model} takes")

    def write(self, footprint: Footprint) -> None:
        """Replace a model's. A disk that can't be written to is no reason to stop."""
        self._notes.write(footprint.model, footprint)

    def read(self, model: str, *, source: str) -> Footprint | None:
        """A model's; None if there is none, or it is of another source."""
        found = self._notes.read(model)
        if found is None:
            return None
        known = (found.model, found.source, found.format) == (model, source, FORMAT_VERSION)
        return found if known else None
