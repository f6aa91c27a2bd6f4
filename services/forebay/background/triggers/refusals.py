"""Messages of which a broker will not have what they came to.

A refusal costs the channel or the whole connection; the message then comes again, and would for
ever. So what failed is counted by message, which has no id that lasts, over connections.
"""

import hashlib
from typing import Final

import msgspec

from forebay.background.triggers.inlets import Delivered

CODES: Final = frozenset({311, 406, 501, 502, 505})
"""AMQP's for what is of one message: too large, refused, or in a frame that is wrong. A full queue,
or an exchange that is gone, is the same for all."""

TWICE: Final = 3
SIXTH: Final = 1
ENOUGH: Final = 6
"""A broker that says why is believed the second time, as what it says may be of something before;
one that hangs up the sixth."""

MOST: Final = 1_000
"""Messages that are remembered; others may have settled them meanwhile."""


class _Failing(msgspec.Struct):
    weight: int = 0
    why: str = ""


class Refusals:
    """What a trigger's broker refused, used on the thread of its link alone."""

    def __init__(self) -> None:
        self._failing: dict[bytes, _Failing] = {}

    def of(self, message: Delivered) -> tuple[int, str]:
        """How many forms of what a message came to were refused, and why the last was."""
        found = self._failing.get(_mark(message)) if self._failing else None
        return (0, "") if found is None else (found.weight // ENOUGH, found.why)

    def failed(self, message: Delivered, error: Exception) -> None:
        """Note that publishing raised this."""
        if not (weight := _weight(error)):
            return
        failing = self._failing.setdefault(_mark(message), _Failing())
        failing.weight += weight
        failing.why = f"{type(error).__name__}: {error}"
        if len(self._failing) > MOST:
            del self._failing[next(iter(self._failing))]

    def settled(self, message: Delivered) -> None:
        """Forget a message."""
        if self._failing:
            self._failing.pop(_mark(message), None)


def _weight(error: Exception) -> int:
    if isinstance(error, TypeError | ValueError) or getattr(error, "code", None) in CODES:
        return TWICE
    hung_up = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return SIXTH if hung_up else 0


def _mark(message: Delivered) -> bytes:
    mark = hashlib.sha256(message.body)
    mark.update(repr((message.content_type, sorted(message.headers.items(), key=str))).encode())
    return mark.digest()
