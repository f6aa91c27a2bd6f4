"""The artifact store: built models on a local disk, addressed by what is in them.

    <home>/artifacts/<model>/<digest>/manifest.json   what it is and what each file must hash to
                                      report.json     what the build measured
                                      model.onnx …    the manifest's files
    <home>/artifacts/<model>/current                  the digest that serves

A folder is written under another name and renamed, and so is the pointer: a reader sees a whole
artifact or the one before it. Serving maps the files into memory, so they are on a local disk;
copying them there from elsewhere is a step before this one.
"""

import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path, PurePosixPath

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import FORMAT_VERSION, BuildReport, FileEntry, Manifest

MANIFEST = "manifest.json"
REPORT = "report.json"
_POINTER = "current"
_PART = ".part-"
_ABANDONED_AFTER_S = 3_600.0
_UNREADABLE = (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading JSON from a file may raise; the last two pass msgspec as they are."""


class Artifact(msgspec.Struct, frozen=True):
    """An artifact on disk.

    Attributes:
        folder: where its files lie.
        manifest: what it says about itself.
        current: whether it is the one that serves its model.
    """

    folder: Path
    manifest: Manifest
    current: bool


class ArtifactStore:
    """Built models under one home folder.

    Args:
        home: the folder; made when first written to.

    Attributes:
        home: likewise.
    """

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)
        self._root = self.home / "artifacts"

    def current(self, model: str) -> Path:
        """Folder of the artifact that serves `model`. Its files are not checked: see `open`.

        Raises:
            ArtifactError: the model isn't built, or the pointer leads nowhere.
        """
        pointer = self._folder(model) / _POINTER
        try:
            digest = pointer.read_text("ascii").strip()
        except FileNotFoundError:
            raise ArtifactError(f"Model {model!r} is not built: {_build(model)}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{pointer} can't be read: {error}. To remake it, "
                                f"{_build(model)}.") from error  # fmt: skip
        folder = pointer.parent / digest
        if not _is_digest(digest) or not folder.is_dir():
            raise ArtifactError(
                f"{pointer} names the artifact {digest[:80]!r}, which is not there: "
                f"{_build(model)}."
            )
        return folder

    def open(self, model: str) -> Artifact:
        """The artifact that serves `model`, every file of it checked.

        Raises:
            ArtifactError: it isn't built, or a file is missing, damaged or not the manifest's.
        """
        folder = self.current(model)
        return Artifact(folder, verify(folder, model=model), current=True)

    def report(self, model: str) -> BuildReport | None:
        """What was measured when the current artifact was built, if that was kept.

        Raises:
            ArtifactError: the model isn't built, or the report can't be read.
        """
        path = self.current(model) / REPORT
        try:
            return msgspec.json.decode(path.read_bytes(), type=BuildReport)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            raise ArtifactError(f"{path} can't be read: {error}; {_build(model)}.") from error

    def keep_report(self, model: str, report: BuildReport) -> None:
        """Replace the report of the current artifact by one that says more.

        Raises:
            ArtifactError: the model isn't built.
            OSError: the disk is full or not writable. The report stays what it was.
        """
        folder = self.current(model)
        part = folder / f"{_PART}{secrets.token_hex(8)}"
        try:
            _write_json(part, report)
            part.replace(folder / REPORT)
        finally:
            part.unlink(missing_ok=True)

    def entries(self) -> list[Artifact]:
        """Every artifact, by model, the current one of a model first.

        File hashes are not checked here. Folders whose manifest can't be read are left out, as
        `open` tells why to whoever needs one of them.

        Raises:
            ArtifactError: a folder can't be read.
        """
        found: list[Artifact] = []
        for folder in _folders(self._root):
            if folder.name.startswith("."):
                continue
            try:
                current: Path | None = self.current(folder.name)
            except ArtifactError:
                current = None
            artifacts: list[Artifact] = []
            for path in _folders(folder):
                if not _is_digest(path.name):
                    continue
                try:
                    manifest = read_manifest(path, model=folder.name)
                except ArtifactError:
                    continue
                artifacts.append(Artifact(path, manifest, current=path == current))
            found += sorted(artifacts, key=lambda artifact: not artifact.current)
        return found

    def publish(
        self, folder: Path, manifest: Manifest, *, report: BuildReport | None = None
    ) -> Artifact:
        """Copy a build's files in and make them current, all of it or nothing.

        An artifact that is already there, by digest, stays in place, and only its manifest and
        report are renewed.

        Args:
            folder: holds the manifest's files; stays as it is.
            manifest: names them.
            report: kept beside the manifest.

        Raises:
            ArtifactError: a file is not what the manifest says. What was current stays so.
            OSError: the disk is full or not writable. What was current stays so.
        """
        home = self._folder(manifest.model)
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        target = home / manifest.digest
        part = home / f"{_PART}{secrets.token_hex(8)}"
        try:
            part.mkdir()
            for entry in manifest.files:
                destination = _inside(part, entry, model=manifest.model)
                destination.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(folder / entry.path, destination)
                except FileNotFoundError:
                    raise ArtifactError(
                        f"{folder / entry.path} is missing: the manifest of "
                        f"{manifest.model!r} names it."
                    ) from None
                _sync(destination)
            _write_json(part / MANIFEST, manifest)
            if report is not None:
                _write_json(part / REPORT, report)
            verify(part, model=manifest.model)
            if not _whole(target, model=manifest.model):
                _discard(target)
                part.rename(target)
            else:
                for name in (MANIFEST, REPORT):
                    if (part / name).exists():
                        (part / name).replace(target / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        pointer = home / f"{_PART}{secrets.token_hex(8)}"
        pointer.write_text(manifest.digest + "\n", "ascii")
        _sync(pointer)
        pointer.replace(home / _POINTER)
        _sync(home)
        return Artifact(target, manifest, current=True)

    def _folder(self, model: str) -> Path:
        if not model or model.startswith(".") or "/" in model or "\\" in model:
            raise ArtifactError(f"{model[:80]!r} is no model's name.")
        return self._root / model


def verify(folder: Path, *, model: str = "NAME") -> Manifest:
    """Check every file of an artifact against its manifest: presence, size and SHA-256.

    Args:
        folder: the artifact.
        model: its model, for the message that says what to run.

    Raises:
        ArtifactError: names the first file that is wrong, and what to do.
    """
    manifest = read_manifest(folder, model=model)
    for entry in manifest.files:
        path = _inside(folder, entry, model=model)
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                raise ArtifactError(
                    f"{path} has {size:,} bytes where the manifest says {entry.bytes:,}: "
                    f"it is damaged; {_build(model)}."
                )
            found = _sha256(path)
        except FileNotFoundError:
            raise ArtifactError(f"{path} is missing; {_build(model)}.") from None
        except OSError as error:
            raise ArtifactError(f"{path} can't be read: {error}; {_build(model)}.") from error
        if found != entry.sha256:
            raise ArtifactError(
                f"{path} is not what the manifest says (SHA-256 {found[:12]}…, expected "
                f"{entry.sha256[:12]}…): it is damaged; {_build(model)}."
            )
    return manifest


def read_manifest(folder: Path, *, model: str = "NAME") -> Manifest:
    """Read an artifact's manifest without checking its files.

    Raises:
        ArtifactError: there is none, it isn't one, it is of another format version, or (where
            the folder is named by a digest) it isn't the one of this folder.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; {_build(model)}.") from None
    except _UNREADABLE as error:
        raise ArtifactError(f"{path} can't be read: {error}; {_build(model)}.") from error
    if manifest.format != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format {manifest.format}, and this release reads {FORMAT_VERSION}; "
            f"{_build(model)}."
        )
    if _is_digest(folder.name) and manifest.digest != folder.name:
        raise ArtifactError(
            f"{path} describes the artifact {manifest.version}, not the one its folder is named "
            f"for: it is damaged; {_build(model)}."
        )
    return manifest


def describe(folder: Path, path: str) -> FileEntry:
    """The manifest's entry for one file of an artifact's folder; `path` is relative to it."""
    file = folder / path
    return FileEntry(path=path, bytes=file.stat().st_size, sha256=_sha256(file))


def _build(model: str) -> str:
    return f"run `forebay models build {model}`"


def _folders(root: Path) -> list[Path]:
    """The folders in one, by name; none if it isn't there."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArtifactError(f"{root} can't be read: {error.strerror}.") from error


def _is_digest(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _inside(folder: Path, entry: FileEntry, *, model: str) -> Path:
    path = PurePosixPath(entry.path)
    outside = path.is_absolute() or not path.parts or ".." in path.parts
    if outside or "\\" in entry.path or "\0" in entry.path:
        raise ArtifactError(
            f"The manifest in {folder} names {entry.path!r}, outside its folder; {_build(model)}."
        )
    return folder / path


def _whole(folder: Path, *, model: str) -> bool:
    if not folder.exists():
        return False
    try:
        verify(folder, model=model)
    except ArtifactError:
        return False
    return True


def _discard(folder: Path) -> None:
    """Move a damaged artifact out of the way first: a folder can't be renamed over another."""
    if folder.exists():
        aside = folder.with_name(f"{_PART}{secrets.token_hex(8)}")
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove what a publish that was killed left behind."""
    for path in home.glob(f"{_PART}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Manifest | BuildReport) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
