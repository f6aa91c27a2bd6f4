"""A Redis for the peers, apart from Forebay's, and what a Redis was asked to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from forebay.local import allocator
from forebay.local.server import HOW_TO_GET_IT, find_program, free_port
from tests.bench.processes import Process, StartError, wait_for_port

TIMEOUT_S = 10.0
HOUSEKEEPING = frozenset({"info", "ping", "client|setinfo", "client|setname", "hello", "command"})


@contextmanager
def serve(*, folder: Path, log: Path) -> Iterator[str]:
    """Forebay's program and allocator, keeping nothing on disk; yields its URL, without a database.

    Raises:
        StartError: there is no server program, or it does not start.
    """
    program = find_program()
    if program is None:
        raise StartError(f"There is no Valkey or Redis for the peers: {HOW_TO_GET_IT}.")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [program.path, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--appendonly", "no", "--dir", str(folder)]
    process = Process(command, env=allocator.environment(), cwd=folder, log=log)
    try:
        wait_for_port(port, process, timeout_s=10)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.stop(grace_s=3)


def calls(url: str) -> dict[str, int]:
    """How often each command has been called, those inside scripts included."""
    with redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    ) as client:
        stats = client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): int(fields["calls"])
        for name, fields in stats.items()
        if name.removeprefix("cmdstat_") not in HOUSEKEEPING
    }


def called_between(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The calls made between two readings, commands without any left out."""
    made = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in sorted(made.items()) if count > 0}
