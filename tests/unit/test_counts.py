"""What gateways count together: in files that others read, and who comes after goes on with."""

import logging
from pathlib import Path

import pytest

from forebay.gateway import counts
from forebay.gateway.counts import SEGMENT, Counts

FORM = b"form"
PASSING = frozenset({"active"})


def counting(folder: Path | None, form: bytes = FORM) -> Counts:
    return Counts(folder, form=form, passing=PASSING)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add(one: Counts, *name: str, by: float = 1.0) -> None:
    one.series(*name, count=2)[1] += by


def sums(one: Counts) -> dict[tuple[str, ...], list[float]]:
    return one.sums(one.told())


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_counted_is_told(tmp_path: Path, shared: bool) -> None:
    one = counting(tmp_path / "of" / "all" if shared else None)
    for _ in range(3):
        add(one, "made", "a", "b")
    add(one, "made", "a", "ü", by=0.5)
    assert sums(one) == {("made", "a", "b"): [0, 3], ("made", "a", "ü"): [0, 0.5]}
    (told,) = one.told()
    assert (told.place, told.lives) == ("1", True)
    assert one.shares == shared


def test_all_who_count_in_a_folder_tell_the_sum(tmp_path: Path) -> None:
    several = [counting(tmp_path) for _ in range(3)]
    for number, one in enumerate(several):
        add(one, "made", by=10**number)
        add(one, "active")
    add(several[1], "only")
    for one in several:
        assert sums(one) == {("made",): [0, 111], ("active",): [0, 3], ("only",): [0, 1]}
    assert [told.place for told in several[0].told()] == ["1", "2", "3"]


def test_counts_outlive_who_made_them_and_who_comes_after_goes_on(tmp_path: Path) -> None:
    one, other = counting(tmp_path), counting(tmp_path)
    for each in (one, other):
        add(each, "made")
        add(each, "active")
    one.close()
    # What is of a process ends with it.
    assert sums(other) == {("made",): [0, 2], ("active",): [0, 1]}
    after = counting(tmp_path)
    assert files(tmp_path) == ["1.counts", "2.counts"]
    assert sums(after) == {("made",): [0, 2], ("active",): [0, 1]}
    add(after, "made")
    assert sums(other)["made",] == [0, 3]


def test_files_grow_and_are_read_whole(tmp_path: Path) -> None:
    one, other = counting(tmp_path), counting(tmp_path)
    names = [("made", f"{number:0200}") for number in range(1_000)]
    for name in names:
        add(one, *name)
    assert (tmp_path / "1.counts").stat().st_size == 4 * SEGMENT
    assert sums(other) == {name: [0, 1] for name in names}
    one.close()
    after = counting(tmp_path)
    for name in names:
        add(after, *name)
    assert sums(other) == {name: [0, 2] for name in names}
    assert (tmp_path / "1.counts").stat().st_size == 4 * SEGMENT
    alone = counting(None)
    for name in names:
        add(alone, *name)
    assert sums(alone) == {name: [0, 1] for name in names}


def test_a_series_that_no_file_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made"):
        counting(tmp_path).series("made", count=SEGMENT)


def test_files_of_another_form_are_left_alone(tmp_path: Path) -> None:
    old = counting(tmp_path, b"old form")
    add(old, "made")
    old.close()
    (tmp_path / "2.counts").write_bytes(b"x" * SEGMENT)
    (tmp_path / "other").write_bytes(b"")
    one = counting(tmp_path)
    add(one, "made")
    assert sums(one) == {("made",): [0, 1]}
    assert [told.place for told in one.told()] == ["3"]
    assert (tmp_path / "2.counts").read_bytes() == b"x" * SEGMENT


@pytest.mark.parametrize("size", [0, 7, SEGMENT - 1])
def test_a_file_that_was_just_begun_is_of_nobody(tmp_path: Path, size: int) -> None:
    one = counting(tmp_path)
    (tmp_path / "2.counts").write_bytes(bytes(size))
    add(one, "made")
    assert sums(one) == {("made",): [0, 1]}
    other = counting(tmp_path)
    add(other, "made")
    assert sums(one) == {("made",): [0, 2]}


def test_a_series_that_is_being_written_is_not_read_and_written_anew(tmp_path: Path) -> None:
    one = counting(tmp_path)
    add(one, "made")
    one.close()
    path = tmp_path / "1.counts"
    data = bytearray(path.read_bytes())
    end = data.index(b'["made"]') + 8 + 16
    for spoiled in (b'\0\0\0\0\2\0\0\0["tom', b'\6\0\0\0\2\0\0\0["\xff\xff"]', b"\xff" * 64):
        data[end : end + len(spoiled)] = spoiled
        path.write_bytes(data)
        after = counting(tmp_path)
        assert sums(after) == {("made",): [0, 1]}
        add(after, "found")
        assert sums(after) == {("made",): [0, 1], ("found",): [0, 1]}
        after.close()
        path.write_bytes(data)


def test_where_there_is_no_folder_to_be_had_a_gateway_counts_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger=counts.__name__):
        one = counting(tmp_path / "file")
    assert "counts by itself" in caplog.text
    add(one, "made")
    assert sums(one) == {("made",): [0, 1]}
    assert not one.shares
