"""The files of texts that a build is given."""

from pathlib import Path

import pytest

from forebay.build import texts
from forebay.contract.errors import BuildFailed

MANY = [f"text {index}" for index in range(20)]


def written(folder: Path, name: str, *lines: str) -> str:
    (folder / name).write_text("\n".join(lines), "utf-8")
    return name


def test_a_line_is_a_text_or_a_json_row_and_repetitions_are_left_out(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        "t.txt",
        "",
        "  plain ",
        '{"text": "two\\nlines"}',
        '{"text": "a", "pair": "b"}',
        "plain",
        *MANY,
    )
    assert texts.read(tmp_path / name) == ["plain", "two\nlines", ("a", "b"), *MANY]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"txt": "a"}', "line 21: Object .* field `t"),
        ("{not json", "line 21: JSON is malformed"),
        ('{"text": 3}', "line 21: Expected `str`, got `int`"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BuildFailed, match=said):
        texts.read(tmp_path / written(tmp_path, "t.txt", *MANY, line))


def test_too_few_texts_and_files_that_can_not_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"t\.txt has 2 texts: give at least 16"):
        texts.read(tmp_path / written(tmp_path, "t.txt", "a", "b"))
    with pytest.raises(BuildFailed, match=r"gone\.txt can't be read"):
        texts.read(tmp_path / "gone.txt")


def test_no_text_may_be_calibrated_and_measured_on(tmp_path: Path) -> None:
    first = written(tmp_path, "a.txt", *MANY)
    second = written(tmp_path, "b.txt", *(f"other {text}" for text in MANY), "text 7")
    with pytest.raises(BuildFailed, match=r"1 texts are in calibration and .* 'text 7'"):
        texts.gather(str(tmp_path), calibrate_on=first, evaluate_on=second)


def test_without_files_the_builds_own_texts_are_taken(tmp_path: Path) -> None:
    gathered = texts.gather(
        str(tmp_path), calibrate_on="", evaluate_on=written(tmp_path, "a.txt", *MANY)
    )
    assert gathered.calibration == tuple(texts.calibration())
    assert gathered.evaluation == tuple(MANY)


def test_what_is_measured_on_is_not_trained_on() -> None:
    assert texts.apart(["measured", *MANY], ["measured"]) == MANY
    with pytest.raises(BuildFailed, match="Of 20 texts to train on, 0 are not also"):
        texts.apart(MANY, MANY)
