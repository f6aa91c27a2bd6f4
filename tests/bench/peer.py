"""The peers: each one file in peers/, which says in its header how it is started and asked.

The header is inline script metadata (https://peps.python.org/pep-0723/) with a table of ours:

    [tool.bench]
    title     name for the tables
    apps      which workloads it serves, of "null" and "minilm"
    path      where it takes POST {"input": …}, giving {"output": …} or {"embedding": [floats]}
    redis     whether it needs one, as BENCH_REDIS_URL
    extra     left out of a quick run (default false)
    commands  what to start in the peers' environment; {port} is put in

Started programs find BENCH_APP, BENCH_ARTIFACT (a folder), BENCH_TOKENIZER (a file),
BENCH_THREADS, BENCH_MAX_ROWS and BENCH_REDIS_URL in their environment.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import msgspec

from forebay.local.server import free_port
from tests.bench.loads import HttpContender, Target, Workload, to_json
from tests.bench.processes import Process, StartError, wait_for_port

FOLDER = Path(__file__).parent / "peers"
REQUIREMENTS = FOLDER / "requirements.txt"
SHARED_WITH_BARE = ("numpy", "onnxruntime", "tokenizers")
START_TIMEOUT_S = 60.0

_HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tool.bench]` table of a peer's header."""

    title: str
    apps: tuple[Workload, ...]
    path: str
    redis: bool
    commands: tuple[str, ...]
    extra: bool = False
    name: str = ""


class PeerSettings(msgspec.Struct, frozen=True):
    """What every peer gets, so that all do the same work with the same means.

    Attributes:
        threads: threads of one forward pass.
        max_rows: rows in one batch.
        redis_url: a server without a database: each app gets one of its own, so that no worker
            takes another's tasks.
    """

    artifact: Path
    tokenizer: Path
    threads: int
    max_rows: int
    redis_url: str

    def environment(self, bin_folder: Path, app: Workload) -> dict[str, str]:
        """The environment of a peer's programs."""
        return {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENCH_APP": app.value,
            "BENCH_ARTIFACT": str(self.artifact),
            "BENCH_TOKENIZER": str(self.tokenizer),
            "BENCH_THREADS": str(self.threads),
            "BENCH_MAX_ROWS": str(self.max_rows),
            "BENCH_REDIS_URL": f"{self.redis_url}/{list(Workload).index(app)}",
        }


def read_header(source: str) -> Peer | None:
    """The peer that a script says it is; None if it has no such header.

    Raises:
        msgspec.ValidationError: the table is not as the module docstring says.
    """
    match = _HEADER.search(source)
    if match is None:
        return None
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:]
        for line in match["content"].splitlines(keepends=True)
    )
    table = tomllib.loads(content).get("tool", {}).get("bench")
    return None if table is None else msgspec.convert(table, Peer)


def find() -> list[Peer]:
    """Every peer there is a file for, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        peer = read_header(path.read_text("utf-8"))
        if peer is not None:
            found.append(msgspec.structs.replace(peer, name=path.stem.replace("_", "-")))
    return found


def prepare_environment(folder: Path, *, tell: Callable[[str], None]) -> Path:
    """Make the peers' virtual environment, unless it is there; gives its folder of programs.

    Raises:
        StartError: an installation failed; the message ends with what it said.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp, programs = folder / "requirements.sha256", folder / "bin"
    if stamp.is_file() and stamp.read_text() == digest:
        return programs
    tell(f"Installing the peers into {folder.name}, which is done once and downloads 70 MB …")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(programs / "python"), "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", "--requirement", str(REQUIREMENTS)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"{shlex.join(command)} failed: {done.stderr.strip()[-800:]}")
    stamp.write_text(digest)
    return programs


def pins() -> dict[str, str]:
    """Version of each package in the peers' environment."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and line[0] != "#")


def start(
    peer: Peer,
    settings: PeerSettings,
    workloads: Collection[Workload],
    *,
    bin_folder: Path,
    logs: Path,
    stack: ExitStack,
) -> HttpContender:
    """Start the apps of a peer that serve one of the workloads; the stack ends them.

    Raises:
        StartError: one ended, or does not listen in time.
    """
    targets = {}
    for app in peer.apps:
        if app not in workloads:
            continue
        port = free_port()
        env = settings.environment(bin_folder, app)
        for number, command in enumerate(peer.commands):
            arguments = shlex.split(command.replace("{port}", str(port)))
            log = logs / f"{peer.name}-{app}-{number}.log"
            process = Process(
                [str(bin_folder / arguments[0]), *arguments[1:]], env=env, cwd=FOLDER, log=log
            )
            stack.callback(process.stop)
        wait_for_port(port, process, timeout_s=START_TIMEOUT_S)
        targets[app] = _target(f"http://127.0.0.1:{port}{peer.path}", app)
    return HttpContender(peer.name, peer.title, targets, extra=peer.extra)


def _target(url: str, app: Workload) -> Target:
    if app is Workload.NULL:
        body = to_json({"input": {"value": 1}})
        return Target(url, lambda _: body, marker='"output"')
    return Target(
        url, lambda text: to_json({"input": text}), marker='"embedding"', vector=_read_vector
    )


def _read_vector(body: bytes) -> list[float]:
    vector: list[float] = json.loads(body)["embedding"]
    return vector
