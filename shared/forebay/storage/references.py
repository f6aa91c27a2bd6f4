"""References of drift: what a model is asked and answers when all is as it should be.

    <home>/artifacts/<model>/<digest>/reference.json   written by a build; no part of the digest
    <home>/references/<model>.json                     what somebody has set instead

What was set holds for the version that it was set for, and for no other.
"""

import secrets
from pathlib import Path

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.sketch import FORMAT_VERSION, Reference
from forebay.storage.artifacts import ArtifactStore

REFERENCE = "reference.json"


class References:
    """References under one home folder.

    Args:
        store: of the artifacts in that folder.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def find(self, model: str, *, version: str) -> Reference | None:
        """A version's reference: the one that was set, else the build's; None without either.

        Raises:
            ArtifactError: it can't be read.
        """
        found = _read(self._set(model))
        if found is not None and found.version == version:
            return found
        return next(
            (
                _read(one.folder / REFERENCE)
                for one in self._store.entries()
                if one.manifest.model == model and one.manifest.version == version
            ),
            None,
        )

    def leave(self, reference: Reference) -> None:
        """Leave a build's reference beside the current artifact of its model.

        Raises:
            ArtifactError: the model isn't built.
            OSError: the disk can't be written to.
        """
        _write(self._store.current(reference.model) / REFERENCE, reference)

    def set(self, reference: Reference) -> Path:
        """Have this one from now on; returns where it is kept.

        Raises:
            OSError: the disk can't be written to.
        """
        path = self._set(reference.model)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, reference)
        return path

    def _set(self, model: str) -> Path:
        return self._store.home / "references" / f"{model}.json"


def _read(path: Path) -> Reference | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Reference)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} can't be read: {error}. Delete it.") from error
    return found if found.format == FORMAT_VERSION else None


def _write(path: Path, reference: Reference) -> None:
    part = path.with_name(f".part-{secrets.token_hex(8)}")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(reference), indent=2) + b"\n")
    part.replace(path)
