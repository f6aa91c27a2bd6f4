"""What is wrong with a batch's file, found before any of its requests runs."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from forebay.background.batches.lines import FaultyLine, read_lines, request_of
from forebay.contract.batches import MOST_BYTES, MOST_FAULTS, MOST_LINES, Fault
from forebay.storage.lines import Line

_DIGEST_BYTES = 8


class Checked(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        total: requests, if nothing is wrong.
        faults: the first of what is.
    """

    total: int = 0
    faults: tuple[Fault, ...] = ()


def check(
    file: IO[bytes],
    *,
    size: int,
    endpoint: str,
    max_body_bytes: int,
    halted: Callable[[], bool],
) -> Checked | None:
    """Read a file through. Blocks, and holds no more than a line and a digest of each id.

    Args:
        file: its content.
        size: in bytes.
        endpoint: the batch's.
        max_body_bytes: the largest body that is taken.
        halted: says that nobody wants to know any more.

    Returns:
        What was found; None if it was halted.
    """
    if size > MOST_BYTES:
        why = f"The file has {size:,} bytes; a batch takes {MOST_BYTES:,} at most: make several."
        return Checked(faults=(Fault("file_too_large", why),))
    total = 0
    faults: list[Fault] = []
    for fault in _faults(read_lines(file, max_body_bytes=max_body_bytes), endpoint):
        total += 1
        if halted():
            return None
        if fault is not None:
            faults.append(fault)
        if len(faults) == MOST_FAULTS:
            break
        if total > MOST_LINES:
            why = f"The file has more than {MOST_LINES:,} requests, the most of a batch."
            return Checked(faults=(Fault("too_many_requests", why),))
    if not total:
        return Checked(faults=(Fault("empty_file", "The file has no requests."),))
    return Checked(faults=tuple(faults)) if faults else Checked(total)


def _faults(lines: Iterator[Line], endpoint: str) -> Iterator[Fault | None]:
    """For each line what is wrong with it, if anything is."""
    # By a key of its own: whoever could make two ids of one digest would be told of a repetition.
    key = secrets.token_bytes(16)
    seen: dict[bytes, int] = {}
    for line in lines:
        try:
            request = request_of(line, endpoint)
        except FaultyLine as faulty:
            yield faulty.fault
            continue
        id_ = hashlib.blake2b(request.custom_id.encode(), digest_size=_DIGEST_BYTES, key=key)
        first = seen.setdefault(id_.digest(), line.number)
        if first == line.number:
            yield None
        else:
            yield Fault(
                "duplicate_custom_id",
                f"The custom_id {request.custom_id[:80]!r} is that of line {first} already.",
                line.number,
                "custom_id",
            )
