"""Python's own profiler, for classes of the user's own: functions instead of operators."""

import cProfile
import pstats
from pathlib import Path
from typing import Any, cast

from forebay.assess.profile.trace import Call


class Calls:
    """Profiles what runs inside it, on this thread."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def __enter__(self) -> "Calls":
        """Begin."""
        self._profile.enable()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._profile.disable()

    def functions(self) -> list[tuple[Call, int]]:
        """Each function with how often it was called; `self_us` is that of all calls together."""
        told = cast("Any", pstats.Stats(self._profile)).stats
        return [
            (
                Call(
                    _name(file, line, function),
                    "built in" if file == "~" else Path(file).name,
                    own * 1e6,
                ),
                calls,
            )
            for (file, line, function), (_, calls, own, _, _) in told.items()
        ]


def _name(file: str, line: int, function: str) -> str:
    return f"{Path(file).name}:{line} {function}" if line else function
