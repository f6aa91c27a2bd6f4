"""What this process holds of the system's memory."""

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """What it holds now; without a `/proc`, the most it ever held."""
    return _told("VmRSS") or _most()


def peak_bytes() -> int:
    """The most it ever held."""
    # Not what `getrusage` says, which Linux carries over from the process that started this one.
    return _told("VmHWM") or _most()


def _told(field: str) -> int:
    try:
        text = _STATUS.read_text("ascii", "replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1_024 if found else 0


def _most() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1_024
