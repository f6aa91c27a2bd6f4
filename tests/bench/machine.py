"""The machine and the versions a run was made with: figures without them mean nothing."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import msgspec

from forebay.local.server import find_program
from tests.bench import environments, wrk

OURS = (
    "forebay", "starlette", "uvicorn", "uvloop", "httptools", "msgspec", "redis", "hiredis",
    "onnxruntime", "tokenizers", "numpy",
)  # fmt: skip
THEIRS = (
    "mosec", "litserve", "bentoml", "ray", "infinity_emb", "transformers", "torch", "fastapi",
    "uvicorn", "celery", "kombu", "redis", "onnxruntime", "tokenizers", "numpy",
)  # fmt: skip
TIMEOUT_S = 10.0


class Machine(msgspec.Struct, frozen=True):
    """What a run ran on."""

    system: str
    cpu: str
    cores: int
    memory_gib: float
    python: str
    wrk: str
    redis: str
    ours: dict[str, str]
    theirs: dict[str, str]


def describe() -> Machine:
    """This machine, now."""
    pins = environments.all_pins()
    server = find_program()
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(),
        cores=cores(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        python=platform.python_version(),
        wrk=_first_words(wrk.find(), "-v", 2),
        redis=_first_words(server.path if server else None, "--version", 3),
        ours={name: version for name in OURS if (version := _installed(name))},
        theirs={name: pins[name] for name in THEIRS if name in pins},
    )


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def differing(machine: Machine) -> list[str]:
    """Libraries that peers and bare loop share but have in different versions."""
    return [
        f"{name} is {machine.ours.get(name)} here and {machine.theirs.get(name)} for the peers"
        for name in environments.SHARED_WITH_BARE
        if machine.ours.get(name) != machine.theirs.get(name)
    ]


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _first_words(program: str | None, flag: str, count: int) -> str:
    if program is None:
        return "none"
    try:
        done = subprocess.run(
            [program, flag], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return " ".join((done.stdout or done.stderr).split()[:count])
