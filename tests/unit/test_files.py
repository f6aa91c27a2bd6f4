"""The file store: whole files or none, names that stay inside, retention by age."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.contract.errors import InvalidInput, NotFound
from forebay.storage.files import FileStore

NOW = 1_800_000_000.0


class Folder:
    """A local store with a clock that stands still, and files of any age."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FileStore(str(root), now=lambda: NOW)

    def aged(self, name: str, age_s: float) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / name).write_bytes(b"x" * 10)
        os.utime(self.root / name, (NOW - age_s, NOW - age_s))

    def names(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files")


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """The same store on two file systems."""
    if request.param == "folder":
        return FileStore(str(tmp_path / "files"))
    return FileStore(f"memory://{secrets.token_hex(4)}")


def test_a_file_is_read_back_as_it_was_put(store: FileStore) -> None:
    assert store.put("file-1.jsonl", [b"one\n", b"", b"two\n"]) == 8
    with store.open("file-1.jsonl") as file:
        assert file.read() == b"one\ntwo\n"


def test_putting_a_name_again_replaces_the_file(store: FileStore) -> None:
    store.put("f", [b"a long first version"])
    store.put("f", [b"short"])
    with store.open("f") as file:
        assert file.read() == b"short"
    assert store.expire(-60) == 1


def test_a_file_that_is_not_there_is_not_found_and_deleting_it_is_no_error(
    store: FileStore,
) -> None:
    with pytest.raises(NotFound, match="no file 'f'"):
        store.open("f")
    store.put("f", [b"x"])
    assert store.delete("f") is True
    assert store.delete("f") is False


def test_an_interrupted_upload_leaves_what_was_there(folder: Folder) -> None:
    folder.store.put("f", [b"whole"])

    def cut_off() -> Iterator[bytes]:
        yield b"half of"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        folder.store.put("f", cut_off())
    with folder.store.open("f") as file:
        assert file.read() == b"whole"
    assert folder.names() == {"f"}


@pytest.mark.parametrize(
    "name", ["", "..", "../f", "a/b", "/etc/passwd", ".part-1", "a\n", "x" * 201]
)
def test_a_name_cannot_leave_the_store(folder: Folder, name: str) -> None:
    for call in (folder.store.open, folder.store.delete, lambda n: folder.store.put(n, [b""])):
        with pytest.raises(InvalidInput, match="can't name a file"):
            call(name)
    assert not folder.root.exists()


def test_files_past_an_age_are_listed_by_name_with_size_and_time(folder: Folder) -> None:
    for name, age_s in (("b", 100.0), ("a", 61.0), ("young", 59.0)):
        folder.aged(name, age_s)
    found = list(folder.store.older_than(60))
    assert [(file.name, file.bytes) for file in found] == [("a", 10), ("b", 10)]
    assert found[0].modified_at == NOW - 61


def test_retention_removes_old_files_and_old_remains_and_counts_the_files(folder: Folder) -> None:
    for name, age_s in (("old", 100.0), ("young", 10.0), (".part-1", 100.0), (".part-2", 10.0)):
        folder.aged(name, age_s)
    assert folder.store.expire(60) == 1
    assert folder.names() == {"young", ".part-2"}
    assert folder.store.expire(60) == 0


def test_a_store_nobody_wrote_to_has_nothing_to_expire(store: FileStore) -> None:
    assert list(store.older_than(0)) == []
    assert store.expire(0) == 0
