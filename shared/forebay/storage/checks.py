"""What checks of drafts were found to cost: a model that comes back needn't try them again.

    <home>/checks/<model>.json      written and read by workers

Notes, not a source of truth: where one is missing, old, can't be read or was made under other
circumstances, the worker tries again.
"""

import time
from pathlib import Path

import msgspec

from forebay.storage.notes import Notes

FORMAT_VERSION = 1

KEPT_S = 86_400.0
"""A note is older than this: the machine may be busier or quieter since, so it is tried again."""


class Checked(msgspec.Struct, frozen=True):
    """That checks of a model's drafts give the bits of steps, and what its runs cost.

    Attributes:
        model: its name.
        version: short digest of the artifact.
        where: processor, library, threads and sizes under which that was found.
        at_s: when, seconds since 1970.
        run: seconds of a run, whatever its rows.
        row: seconds more for each row.
        token: seconds more for each token that a row looks back at.
    """

    model: str
    version: str
    where: str
    at_s: float
    run: float
    row: float
    token: float
    format: int = FORMAT_VERSION


class Checks:
    """Notes under one home folder.

    Args:
        home: the folder; made when first written to.
    """

    def __init__(self, home: str | Path) -> None:
        self._notes = Notes(Path(home) / "checks", Checked, what="what checks of {model} cost")

    def write(self, checked: Checked) -> None:
        """Replace a model's. A disk that can't be written to is no reason to stop."""
        self._notes.write(checked.model, checked)

    def read(self, model: str, *, version: str, where: str) -> Checked | None:
        """A model's; None if there is none of today, of this version, under these circumstances."""
        found = self._notes.read(model)
        if found is None or not 0 <= time.time() - found.at_s < KEPT_S:
            return None
        known = (found.model, found.version, found.where, found.format)
        return found if known == (model, version, where, FORMAT_VERSION) else None
