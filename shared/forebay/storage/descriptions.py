"""What workers tell about models that have no artifact: which version serves, what it takes.

    <home>/described/<model>.json      written by a worker as it becomes ready, read by gateways

It is a note, not a source of truth: where it is missing or can't be read, nothing is known.
"""

import contextlib
import logging
import secrets
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


class Description(msgspec.Struct, frozen=True):
    """A python model as the worker that became ready last has it.

    Attributes:
        model: its name.
        source: the class, as `models.toml` says it.
        digest: hex SHA-256 over the class's code.
        input_schema: JSON schema of a row.
        output_schema: of what comes of one; empty if the class doesn't say.
    """

    model: str
    source: str
    digest: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    format: int = FORMAT_VERSION

    @property
    def version(self) -> str:
        """The digest's first 12 characters: what clients see as the version."""
        return self.digest[:12]


class Descriptions:
    """Descriptions under one home folder.

    Args:
        home: the folder; made when first written to.
    """

    def __init__(self, home: str | Path) -> None:
        self._folder = Path(home) / "described"

    def write(self, description: Description) -> None:
        """Replace a model's description. A disk that can't be written to is no reason to stop."""
        part = self._folder / f".part-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.format(msgspec.json.encode(description), indent=2))
            part.replace(self._folder / f"{description.model}.json")
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            log.warning("what %s takes can't be told to gateways: %s", description.model, error)

    def read(self, model: str, *, source: str) -> Description | None:
        """A model's description; None if there is none, or it is of another class.

        Args:
            model: its name.
            source: what `models.toml` says now.
        """
        try:
            found = msgspec.json.decode(
                (self._folder / f"{model}.json").read_bytes(), type=Description
            )
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        known = (found.model, found.source, found.format) == (model, source, FORMAT_VERSION)
        return found if known else None
