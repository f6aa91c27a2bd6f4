"""Files and what is known of them: pages, retention, holds, and what a kill leaves behind."""

import hashlib
import os
import secrets
import time
from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError, InvalidInput, NotFound, Unavailable
from forebay.contract.files import FILE_ID, Purpose, Terms, label
from forebay.storage.file_records import ABANDONED_S, Files

TERMS = Terms(filename="lines.jsonl", purpose=Purpose.BATCH)
DAY = 86_400.0


class Clock:
    """Time that passes when it is told to; each look at it takes a millisecond."""

    def __init__(self) -> None:
        self.now = time.time()  # files bear the machine's own

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Files:
    """The same files on two file systems."""
    url = f"memory://{secrets.token_hex(4)}" if request.param == "memory" else str(tmp_path)
    return Files(url, retention_s=30 * DAY, now=clock)


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> Files:
    return Files(str(tmp_path), retention_s=30 * DAY, now=clock)


def test_a_file_is_known_and_read_back(files: Files, clock: Clock) -> None:
    terms = Terms(
        filename="a.png",
        purpose=Purpose.VISION,
        media_type="image/png",
        expires_after_s=DAY,
        metadata={"run": 7},
    )
    record = files.put([b"one ", b"two"], terms)
    assert FILE_ID.fullmatch(record.id)
    assert files.get(record.id) == record
    assert (record.filename, record.bytes, record.media_type) == ("a.png", 7, "image/png")
    assert record.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert record.expires_at == record.created_at + DAY
    assert record.metadata == {"run": 7}
    with files.open(record.id) as content:
        content.seek(4)
        assert content.read() == b"two"


def test_a_file_is_kept_no_longer_than_the_retention_whatever_was_asked(files: Files) -> None:
    record = files.put([b"x"], Terms(filename="a", purpose=Purpose.BATCH, expires_after_s=99 * DAY))
    assert record.expires_at == record.created_at + 30 * DAY


@pytest.mark.parametrize("file_id", ["", "file-1", "../records", "file-" + "0" * 32])
def test_what_is_no_file_is_not_found(files: Files, file_id: str) -> None:
    for call in (files.get, files.open, files.delete, lambda one: files.hold(one, by="b")):
        with pytest.raises(NotFound, match="There is no file"):
            call(file_id)
    files.release(file_id, by="b")


def test_a_deleted_file_is_gone(files: Files) -> None:
    record = files.put([b"x"], TERMS)
    assert [one.id for one in files.page(limit=9).files] == [record.id]
    files.delete(record.id)
    with pytest.raises(NotFound):
        files.get(record.id)
    assert files.page(limit=9).files == []
    assert files.contents.names() == []


def test_files_are_paged_by_age_from_either_end_and_by_purpose(files: Files) -> None:
    made = [
        files.put([b"x"], Terms(filename=f"{n}", purpose=(Purpose.BATCH, Purpose.VISION)[n % 2])).id
        for n in range(7)
    ]
    first = files.page(limit=3)
    assert [one.id for one in first.files] == [made[6], made[5], made[4]]
    assert first.more
    files.delete(made[4])
    second = files.page(limit=9, after=made[4])
    assert [one.id for one in second.files] == [made[3], made[2], made[1], made[0]]
    assert not second.more
    oldest = files.page(limit=2, newest_first=False, after=made[0])
    assert [one.id for one in oldest.files] == [made[1], made[2]]
    odd = files.page(limit=2, newest_first=False, purpose=Purpose.VISION)
    assert [one.id for one in odd.files] == [made[1], made[3]]
    assert odd.more
    assert not files.page(limit=3, purpose=Purpose.VISION).more


def test_ids_of_one_moment_sort_as_they_were_made(tmp_path: Path) -> None:
    files = Files(str(tmp_path), retention_s=DAY, now=lambda: 1.0)
    made = [files.new_id() for _ in range(50)]
    assert made == sorted(made)
    assert all(map(FILE_ID.fullmatch, made))


def test_another_process_sees_what_is_there_now(tmp_path: Path) -> None:
    one, other = (Files(str(tmp_path), retention_s=DAY) for _ in range(2))
    record = one.put([b"x"], TERMS)
    assert [found.id for found in other.page(limit=9).files] == [record.id]
    one.delete(record.id)
    assert other.page(limit=9).files == []


def test_files_whose_time_is_over_are_gone_before_they_are_deleted(
    files: Files, clock: Clock
) -> None:
    short = files.put([b"x"], Terms(filename="a", purpose=Purpose.BATCH, expires_after_s=DAY))
    long = files.put([b"x"], TERMS)
    clock.now += DAY
    with pytest.raises(NotFound):
        files.get(short.id)
    assert [one.id for one in files.page(limit=9).files] == [long.id]
    assert files.expire() == 1
    assert files.contents.names() == [long.id]
    assert files.expire() == 0


def test_a_shorter_retention_holds_for_files_that_are_there(tmp_path: Path, clock: Clock) -> None:
    record = Files(str(tmp_path), retention_s=30 * DAY, now=clock).put([b"x"], TERMS)
    clock.now += 2 * DAY
    shorter = Files(str(tmp_path), retention_s=DAY, now=clock)
    assert shorter.expire() == 1
    with pytest.raises(NotFound):
        shorter.get(record.id)


def test_a_file_that_is_held_outlives_its_time_and_is_not_deleted(
    files: Files, clock: Clock
) -> None:
    record = files.put([b"x"], Terms(filename="a", purpose=Purpose.BATCH, expires_after_s=DAY))
    assert files.hold(record.id, by="batch_1") == record
    files.hold(record.id, by="batch_2")
    with pytest.raises(InvalidInput, match="in use by batch_1, batch_2"):
        files.delete(record.id)
    clock.now += 2 * DAY
    assert files.expire() == 0
    with files.open(record.id) as content:
        assert content.read() == b"x"
    files.release(record.id, by="batch_1")
    files.release(record.id, by="batch_1")
    assert files.expire() == 0
    files.release(record.id, by="batch_2")
    assert files.expire() == 1


def test_an_upload_that_is_given_up_leaves_nothing(folder: Files, tmp_path: Path) -> None:
    with folder.begin() as upload:
        upload.write(b"half of")
    with pytest.raises(NotFound):
        folder.get(upload.id)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_kill_left_behind_goes_when_it_is_old(
    folder: Files, tmp_path: Path, clock: Clock
) -> None:
    kept = folder.put([b"x"], TERMS)
    orphan = folder.new_id()
    folder.contents.put(orphan, [b"content without a record"])
    folder.segments.put(f"{orphan}.0", [b"never joined"])
    unfinished = folder.begin()
    unfinished.write(b"cut off")
    folder.hold(kept.id, by="batch_of_nobody")
    for path in tmp_path.rglob("*"):
        os.utime(path, (clock.now, clock.now))
    folder.expire()
    assert folder.contents.names() == [kept.id, orphan]
    clock.now += ABANDONED_S + 60
    assert folder.expire() == 0
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("file-*"))
    assert left == [f"contents/{kept.id}", f"records/{kept.id}"]
    assert list((tmp_path / "contents").glob(".part-*")) == []
    unfinished.abandon()


def test_a_record_that_is_damaged_is_a_file_that_is_not_there(
    folder: Files, tmp_path: Path
) -> None:
    record, other = folder.put([b"x"], TERMS), folder.put([b"x"], TERMS)
    (tmp_path / "records" / record.id).write_bytes(b"{")
    with pytest.raises(NotFound):
        folder.get(record.id)
    assert [one.id for one in folder.page(limit=9).files] == [other.id]


def test_a_store_that_is_out_of_reach_is_told_of_without_its_details(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = Files(str(tmp_path / "file" / "beneath"), retention_s=DAY)
    with pytest.raises(Unavailable, match="can't be stored or read now"):
        files.put([b"x"], TERMS)


def test_a_url_of_nothing_that_is_known_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="files_url: no files can be kept at 'nowhere://x"):
        Files("nowhere://x", retention_s=DAY)


def test_a_name_is_a_label() -> None:
    assert label("../../etc/passwd") == "passwd"
    assert label("C:\\data\\a.jsonl") == "a.jsonl"
    assert label("two\nlines\x00") == "twolines"
    assert label("/") == "file"
    assert len(label("x" * 999)) == 255
