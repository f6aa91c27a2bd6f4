"""Which processors need ONNX Runtime's exact way of multiplying bytes."""

from pathlib import Path

import pytest

from forebay.runtime.processor import saturates


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 avx512f avx512_vnni", False), ("avx2 avx_vnni", False), ("avx2 avx512f", True)],
)
def test_x86_saturates_without_its_vnni_instructions(
    tmp_path: Path, machine: str, flags: str, expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: A processor\nflags\t\t: fpu {flags} sse\n")
    assert saturates(machine, cpuinfo=cpuinfo) is expected


def test_an_x86_that_nobody_tells_about_counts_as_one_that_saturates(tmp_path: Path) -> None:
    assert saturates("x86_64", cpuinfo=tmp_path / "none")


def test_other_processors_do_not_saturate(tmp_path: Path) -> None:
    assert not saturates("aarch64", cpuinfo=tmp_path / "none")
