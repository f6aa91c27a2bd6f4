"""The peers' virtual environments: each pinned by one file, and made when somebody needs it.

peers/requirements.txt          .venv-peers
peers/requirements-NAME.txt     .venv-peers-NAME, for those that can't live with the others
"""

import hashlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import StartError

FOLDER = Path(__file__).parent / "peers"
MAIN = ""
"""The environment of those that say nothing else."""

SHARED_WITH_BARE = ("numpy", "onnxruntime", "tokenizers")
_STAMP = "requirements.sha256"


def names() -> list[str]:
    """Every environment there is a file for, the main one first."""
    found = sorted(path.stem for path in FOLDER.glob("requirements-*.txt"))
    return [MAIN, *(stem.removeprefix("requirements-") for stem in found)]


def requirements(name: str = MAIN) -> Path:
    """The file that pins an environment."""
    return FOLDER / (f"requirements-{name}.txt" if name else "requirements.txt")


def pins(name: str = MAIN) -> dict[str, str]:
    """Version of each package in one environment."""
    lines = requirements(name).read_text("utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and line[0] != "#")


def all_pins() -> dict[str, str]:
    """Version of each package that any peer runs on; where two differ, the earlier one's."""
    found: dict[str, str] = {}
    for name in names():
        found = {**pins(name), **found}
    return found


def prepare(main: Path, name: str = MAIN, *, tell: Callable[[str], None]) -> Path:
    """Make an environment, unless it is there; gives its folder of programs.

    Args:
        main: folder of the main environment; the others lie beside it.
        name: which.
        tell: takes a line before what takes long.

    Raises:
        StartError: an installation failed; the message ends with what it said.
    """
    folder = main.with_name(f"{main.name}-{name}") if name else main
    file = requirements(name)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    stamp, programs = folder / _STAMP, folder / "bin"
    if stamp.is_file() and stamp.read_text() == digest:
        return programs
    tell(
        f"Installing {len(pins(name))} packages for the peers into {folder.name}, which is done "
        "once and may take some minutes …"
    )
    began = time.monotonic()
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(programs / "python"), "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", "--requirement", str(file)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"{shlex.join(command)} failed: {done.stderr.strip()[-800:]}")
    stamp.write_text(digest)
    tell(f"{folder.name} is installed, after {time.monotonic() - began:.0f} s.")
    return programs
