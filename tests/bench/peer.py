"""The peers: each one file in peers/, which says in its header how it is started and asked.

The header is inline script metadata (https://peps.python.org/pep-0723/) with a table of ours:

    [tool.bench]
    title         name for the tables
    apps          which workloads it serves, of "null", "minilm" and "smollm2"
    path          where it takes requests
    dialect       how it is asked, see `Dialect` (default "plain")
    redis         whether it needs one, as BENCH_REDIS_URL
    extra         left out of a quick run (default false)
    environment   whose pinned packages it runs on: `requirements-NAME.txt` (default
                  `requirements.txt`)
    least_cosine  how like the bare model's its embeddings have to be, where its artifact is
                  another (default: as like as everybody's)
    commands      what to start in that environment; {port}, {threads}, {max_rows} and {weights}
                  are put in

Started programs find BENCH_APP, BENCH_ARTIFACT (a folder), BENCH_TOKENIZER (a file),
BENCH_THREADS, BENCH_MAX_ROWS and BENCH_REDIS_URL in their environment. `weights` is a folder as
Hugging Face's libraries read it, with the weights that the artifact was made of.
"""

import os
import shlex
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import msgspec

from forebay.local.server import free_port
from tests.bench import headers
from tests.bench.dialects import Dialect
from tests.bench.environments import MAIN
from tests.bench.generation.served import ServedTexts
from tests.bench.loads import HttpContender, Target, Workload
from tests.bench.processes import Process, StartError, wait_for_port

FOLDER = Path(__file__).parent / "peers"
START_TIMEOUT_S = 120.0
"""Ray takes half a minute on a quiet machine."""

FIRST_ANSWER_S = 30.0
NEVER = (400, 405, 422)
"""What a server answers that will not take the request later either."""

POLL_S = 0.2

QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Nobody tells their makers of a run, or asks a server elsewhere for a model."""


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tool.bench]` table of a peer's header."""

    title: str
    apps: tuple[Workload, ...]
    path: str
    redis: bool
    commands: tuple[str, ...]
    dialect: Dialect = Dialect.PLAIN
    extra: bool = False
    environment: str = MAIN
    least_cosine: float | None = None
    name: str = ""


class PeerSettings(msgspec.Struct, frozen=True):
    """What every peer gets, so that all do the same work with the same means.

    Attributes:
        threads: threads of one forward pass.
        max_rows: rows in one batch.
        redis_url: a server without a database: each app gets one of its own, so that no worker
            takes another's tasks.
        weights: by workload, a folder with the weights that its artifact was made of.
    """

    artifact: Path
    tokenizer: Path
    threads: int
    max_rows: int
    redis_url: str
    weights: Mapping[Workload, Path] = {}

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
            **QUIET,
        }

    def command(self, template: str, app: Workload, port: int) -> list[str]:
        """A header's command with its blanks filled in."""
        blanks = {
            "port": port,
            "threads": self.threads,
            "max_rows": self.max_rows,
            "weights": self.weights.get(app, ""),
        }
        return [word.format_map(blanks) for word in shlex.split(template)]


def read_header(source: str) -> Peer | None:
    """The peer that a script says it is; None if it has no such header.

    Raises:
        msgspec.ValidationError: the table is not as the module docstring says.
    """
    return headers.read(source, "bench", Peer)


def find() -> list[Peer]:
    """Every peer there is a file for, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        peer = read_header(path.read_text("utf-8"))
        if peer is not None:
            found.append(msgspec.structs.replace(peer, name=path.stem.replace("_", "-")))
    return found


def start(
    peer: Peer,
    settings: PeerSettings,
    workloads: Collection[Workload],
    *,
    bin_folder: Path,
    logs: Path,
    stack: ExitStack,
) -> tuple[HttpContender, list[Process]]:
    """Start the apps of a peer that serve one of the workloads; the stack ends them.

    Returns:
        The peer, and its programs.

    Raises:
        StartError: one ended, or does not listen, or does not answer, in time.
    """
    targets: dict[Workload, Target] = {}
    programs: list[Process] = []
    for app in peer.apps:
        if app not in workloads:
            continue
        port = free_port()
        env = settings.environment(bin_folder, app)
        for number, command in enumerate(peer.commands):
            arguments = settings.command(command, app, port)
            log = logs / f"{peer.name}-{app}-{number}.log"
            process = Process(
                [str(bin_folder / arguments[0]), *arguments[1:]], env=env, cwd=FOLDER, log=log
            )
            stack.callback(process.stop)
            programs.append(process)
        wait_for_port(port, process, timeout_s=START_TIMEOUT_S)
        target = peer.dialect.target(f"http://127.0.0.1:{port}{peer.path}", app)
        if peer.least_cosine is not None:
            target = msgspec.structs.replace(target, least_cosine=peer.least_cosine)
        wait_for_answer(target, process)
        targets[app] = target
    kind = ServedTexts if Workload.SMOLLM2 in targets else HttpContender
    return kind(peer.name, peer.title, targets, extra=peer.extra), programs


def wait_for_answer(target: Target, process: Process) -> None:
    """Return once a request is answered: some listen before their models are loaded.

    Raises:
        StartError: the process ended first, or the time is over; the message holds what was
            answered last.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        process.check()
        try:
            answer = target.ask("Are you ready?", timeout_s=FIRST_ANSWER_S)
        except OSError as error:
            told = str(error)
            if isinstance(error, HTTPError) and error.code in NEVER:
                raise StartError(f"{target.url} does not take it: {told}") from error
        else:
            if target.marker.encode() in answer:
                return
            told = answer.decode(errors="replace")[:200]
        if time.monotonic() > deadline:
            raise StartError(f"{target.url} does not answer: {told} {process.log_end()}")
        time.sleep(POLL_S)
