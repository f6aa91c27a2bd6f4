"""What this machine's processor can't do, where results depend on it."""

import platform
from pathlib import Path


def saturates(machine: str = platform.machine(), *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether 8-bit kernels for unsigned by signed bytes add their products up in 16 bits.

    x86 without the VNNI instructions does, and overflows (decision 0005). ONNX Runtime then has
    an exact way, which costs a third of the speed: a build and a worker ask for it here alike, and
    nowhere else. An x86 processor that nobody tells about counts as one without.

    Args:
        machine: its architecture; this machine's own by default.
        cpuinfo: where Linux tells what the processor has.
    """
    if machine not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in cpuinfo.read_text("utf-8")
    except OSError:
        return True
