"""Bounds of a model's replicas: what a table says, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.contract.replicas import MOST, Replicas
from forebay.runtime.catalog import read

ECHO = '[models.echo]\ntask = "echo"\nbackend = "echo"\n'


def written(folder: Path, table: str) -> Path:
    """A catalog with this table of `echo`'s replicas, which begins in line 4."""
    path = folder / "models.toml"
    path.write_text(f"{ECHO}[models.echo.replicas]\n{table}\n")
    return path


@pytest.mark.parametrize(
    ("table", "bounds"),
    [
        ("", (1, 1)),
        ("min = 0", (0, 1)),
        ("min = 2", (2, 2)),
        ("max = 4", (1, 4)),
        ("min = 0\nmax = 3", (0, 3)),
        (f"min = {MOST}\nmax = {MOST}", (MOST, MOST)),
    ],
)
def test_a_table_says_how_few_and_how_many(
    tmp_path: Path, table: str, bounds: tuple[int, int]
) -> None:
    replicas = read(written(tmp_path, table)).models["echo"].replicas
    assert (replicas.min, replicas.most) == bounds
    assert replicas.is_fixed == (bounds[0] == bounds[1])
    assert replicas.from_zero == (bounds[0] == 0)
    assert replicas.grace_s == (0 if bounds[0] else 60)


def test_a_model_without_the_table_always_has_one() -> None:
    assert Replicas() == Replicas(min=1)
    assert Replicas().is_fixed


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("min = -1", "line 5: models.echo.replicas.min: must be from 0 to 1,000."),
        ("min = 1001", "line 5: models.echo.replicas.min: must be from 0 to 1,000."),
        ("max = 0", "models.echo.replicas.max: must be at least 1, at least `min`"),
        ("min = 3\nmax = 2", "line 6: models.echo.replicas.max: must be at least 1, at least"),
        ("stable_s = 0", "models.echo.replicas.stable_s: must be more than 0, and finite."),
        ("idle_s = 0", "line 5: models.echo.replicas.idle_s: must be more than 0, and finite."),
        ("idle_s = inf", "models.echo.replicas.idle_s: must be more than 0, and finite."),
        ("start_s = -1", "models.echo.replicas.start_s: must be more than 0, and finite."),
        ("mni = 1", "line 5: models.echo.replicas.mni: there is no such field; there are min,"),
        ('min = "few"', "line 5: models.echo.replicas.min: expected `int`, got `str`."),
        ("min = 1.5", "line 5: models.echo.replicas.min: expected `int`, got `float`."),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(written(tmp_path, table))
    assert said in caught.value.message


def test_a_version_may_have_bounds_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "min = 0")
    path.write_text(
        f"{path.read_text()}[models.echo.versions.v2]\nweight = 10\n"
        "[models.echo.versions.v2.replicas]\nmax = 2\n"
    )
    served: Any = read(path).served
    assert served["echo"].replicas == Replicas(min=0)
    # Beside the model's own, of which it has what it doesn't say itself.
    assert served["echo@v2"].replicas == Replicas(min=0, max=2)
