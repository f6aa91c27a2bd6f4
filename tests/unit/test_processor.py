"""Which processors need ONNX Runtime's exact way of multiplying bytes."""

import os
from pathlib import Path

import pytest

from forebay.runtime.processor import cores, saturates


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


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense", 8),
        ("1 0", 8),
    ],
)
def test_a_limit_of_cpu_time_counts_as_so_many_cores(
    tmp_path: Path, told: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(told)
    assert cores(tmp_path) == expected


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3)])
def test_so_does_one_of_the_first_version_of_cgroups(
    tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores(tmp_path) == expected


@pytest.mark.usefixtures("eight")
def test_where_no_limit_is_told_all_cores_count(tmp_path: Path) -> None:
    assert cores(tmp_path) == 8
