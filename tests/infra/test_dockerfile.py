"""The Dockerfile: read by hadolint, and held against what it copies and installs.

What this can't cover: building the images, which takes Docker.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra/docker/Dockerfile"
TEXT = DOCKERFILE.read_text("utf-8").replace("\\\n", " ")
TARGETS = ("gateway", "background", "worker", "worker-gpu", "builder")


def stage(name: str) -> str:
    """The instructions of a stage."""
    stages = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]
    return next(one for one in stages if one.split("\n", 1)[0].endswith(f" AS {name}"))


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python\nRUN cd /tmp && pip install redis\n")
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, str(wrong)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DL3006" in done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_in_particular_and_begins_with_a_verb(target: str) -> None:
    told = stage(target)
    assert "USER 10001:10001" in told
    (command,) = re.findall(r"^CMD \[(.+)\]$", told, re.MULTILINE)
    program, *words = re.findall(r'"([^"]+)"', command)
    assert program == "forebay"
    verb = [word for word in words if not word.startswith("--")]
    done = subprocess.run(
        [sys.executable, "-m", "forebay.cli", *verb, "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_packages_are_extras_that_there_are_in_the_versions_that_were_tested(target: str) -> None:
    told = stage(f"{target}-packages")
    installs = [part for part in re.split(r"&&|\n", told) if "install" in part]
    assert installs
    assert all("-c constraints.txt" in install for install in installs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r'"\.\[([\w,-]+)\]"', told)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_what_is_copied_is_there_and_is_let_through() -> None:
    let = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for words in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        *sources, _ = words.split()
        copied |= set(sources)
    assert copied == let
    assert all((ROOT / source).exists() for source in copied)
