"""Durations as they are given on the command line: 90s, 5m, 2h, 3d."""

import re
from typing import Final

from forebay.contract.errors import InvalidInput

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])")


def age_s(text: str) -> int:
    """A duration in seconds.

    Raises:
        InvalidInput: it is none.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text[:40]!r} is no age: say 90s, 5m, 2h or 3d.")
    return int(match[1]) * _UNITS[match[2]]
