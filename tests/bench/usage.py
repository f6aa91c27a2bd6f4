"""What a contender's processes take: CPU time and memory, by what each is for."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from tests.bench.neighbours import TICKS_PER_S
from tests.bench.processes import command_line, descendants

ROLES = (
    (re.compile(r"\bforebay\.cli worker (\S+)"), "worker {}"),
    (re.compile(r"\bforebay\.cli gateway"), "gateway"),
    (re.compile(r"\bforebay\.cli background --beat"), "heartbeat"),
    (re.compile(r"\bforebay\.cli background"), "background"),
    (re.compile(r"\bforebay\.cli\.forker"), "forker"),
    (re.compile(r"\b(?:redis|valkey)-server"), "Redis"),
    (re.compile(r"\bforebay up"), "supervisor"),
)
OTHER = "other"


class Memory(msgspec.Struct, frozen=True):
    """Memory of one process, in bytes.

    Attributes:
        process: what it is for.
        rss: resident, what it shares with others counted in full.
        pss: likewise, but what is shared divided by those who share it; 0 if the system doesn't
            tell.
    """

    process: str
    rss: int
    pss: int


def role(command: str) -> str:
    """What a process is for, by its command line; `other` for what is not Forebay's."""
    for pattern, name in ROLES:
        if match := pattern.search(command):
            return name.format(*match.groups())
    return OTHER


def cpu_s(roots: Iterable[int]) -> dict[str, float]:
    """CPU seconds so far of processes and all below them, by what each is for."""
    found: dict[str, float] = {}
    for pid in _all(roots):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
            used = sum(int(field) for field in fields.split()[11:13]) / TICKS_PER_S
            name = role(command_line(pid))
            found[name] = found.get(name, 0.0) + used
    return found


def used_between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds between two readings, processes that used none left out."""
    used = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {name: round(value, 2) for name, value in sorted(used.items()) if value > 0}


def memory(roots: Iterable[int]) -> list[Memory]:
    """Memory of processes and all below them, now, the largest first."""
    found = []
    for pid in _all(roots):
        with suppress(OSError):
            told = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib = {
                name: int(value) for name, value in re.findall(r"^(Rss|Pss):\s+(\d+)", told, re.M)
            }
            found.append(
                Memory(role(command_line(pid)), kib.get("Rss", 0) * 1024, kib.get("Pss", 0) * 1024)
            )
    return sorted(found, key=lambda one: -one.rss)


def _all(roots: Iterable[int]) -> list[int]:
    return [pid for root in roots for pid in (root, *descendants(root))]
