"""Files of a user's class: a `pathlib.Path` for the class, a name for everybody else.

    a row     "file-…", the URL of a file here, or a data: URL  ─▶  Path of a copy, for one call
    an output Path of a file                                    ─▶  "file-…", once it is stored

Clients see the URL of what is stored; whatever else gets the output has its id.
"""

import base64
import binascii
import contextlib
import mimetypes
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forebay.contract.errors import NotFound
from forebay.contract.files import (
    FILE_FIELD,
    MAX_FILENAME,
    FileRecord,
    Purpose,
    Terms,
    id_in,
    label,
)

if TYPE_CHECKING:
    from forebay.storage.file_records import Files

SCHEMA: Final = {
    "type": "string",
    "format": "uri",
    "description": "A file: its id, an address, or a data: URL",
    FILE_FIELD: True,
}
"""What a row's field of this kind takes, as a JSON schema."""

_CHUNK = 1 << 20
_DATA = "data:"


class UserFiles:
    """Files for one class. `check` may be called on any thread; the rest where the class runs.

    Args:
        files: opens the store, when it is first needed; without one nothing is read or kept.
    """

    def __init__(self, files: "Callable[[], Files] | None" = None) -> None:
        self._files = files
        self._folder: Path | None = None
        self._rehearsing = files is None

    @contextlib.contextmanager
    def rehearsing(self) -> Generator[None]:
        """Keep no outputs until the block ends: they are those of samples."""
        before, self._rehearsing = self._rehearsing, True
        try:
            yield
        finally:
            self._rehearsing = before

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """Have what rows name as files until the block ends."""
        try:
            yield
        finally:
            folder, self._folder = self._folder, None
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def check(self, named: object) -> Path:
        """Whether a row names a file; what comes of it is a path to nowhere.

        Raises:
            ValueError: it doesn't, or the file is not here.
            Unavailable: the store is out of reach.
        """
        if isinstance(named, str) and named[: len(_DATA)].lower() == _DATA:
            _decoded(named)
        else:
            self._record(named)
        return Path()

    def copied(self, named: object) -> Path:
        """The file that a row names, as one of the class's own while it is `lent`.

        Raises:
            ValueError: it names none, or the file is not here any more.
            Unavailable: the store is out of reach.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="forebay-"))
        folder = Path(tempfile.mkdtemp(dir=self._folder))  # each its own: names may be the same
        if isinstance(named, str) and named[: len(_DATA)].lower() == _DATA:
            media_type, content = _decoded(named)
            path = folder / f"file{mimetypes.guess_extension(media_type) or ''}"
            path.write_bytes(content)
            return path
        record = self._record(named)
        assert self._files is not None
        path = folder / _name_on_disk(record.filename)
        with self._files().contents.open(record.id) as content_, path.open("wb") as copy:
            shutil.copyfileobj(content_, copy, _CHUNK)
        return path

    def kept(self, path: Path) -> str:
        """Store an output, and delete it where it lies if that is among temporary files.

        Returns:
            Its id.

        Raises:
            ValueError: there is no such file.
            Unavailable: the store is out of reach, or full.
        """
        if not path.is_file():
            raise ValueError(f"there is no file {str(path)!r}")
        file_id = "file-" + "0" * 32
        if self._files is not None and not self._rehearsing:
            terms = Terms(
                filename=path.name,
                purpose=Purpose.OUTPUT,
                media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            )
            with path.open("rb") as content:
                file_id = self._files().put(iter(lambda: content.read(_CHUNK), b""), terms).id
        if path.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
            path.unlink(missing_ok=True)
        return file_id

    def _record(self, named: object) -> FileRecord:
        file_id = id_in(named) if isinstance(named, str) else None
        if file_id is None:
            raise ValueError(
                "this gives no file: name one by its id (file-…) or its URL, once it was sent to "
                "/v1/files, or give a data: URL"
            )
        if self._files is None:
            raise ValueError("there are no files here: give a data: URL")
        try:
            return self._files().get(file_id)
        except NotFound as error:
            raise ValueError(error.message.removesuffix(".")) from None


def data_url(path: Path) -> str:
    """A file as a data: URL, as a row may hold it.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _decoded(url: str) -> tuple[str, bytes]:
    head, comma, encoded = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("a data: URL must be base64: data:image/png;base64,…")
    try:
        content = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise ValueError("the data: URL is not base64") from None
    return head[len(_DATA) :].partition(";")[0].lower(), content


def _name_on_disk(filename: str) -> str:
    """A name that any disk takes; it ends as the file's own does, for those who go by that."""
    name = label(filename)
    suffix = Path(name).suffix[:20]
    stem = name[: len(name) - len(Path(name).suffix)].strip(". ") or "file"
    return stem.encode()[: MAX_FILENAME - 100].decode(errors="ignore") + suffix


def field(kind: type[Any]) -> dict[str, Any]:
    """The schema of a kind of field that msgspec has none for.

    Raises:
        NotImplementedError: it is of no kind that is known here either.
    """
    if kind is Path:
        return SCHEMA
    raise NotImplementedError
