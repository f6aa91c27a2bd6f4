"""What is told of a burst."""

from pathlib import Path

import pytest

from tests.bench.bursts import Burst, Look, draw, table


def burst_of(workers: list[int]) -> Burst:
    looks = tuple(Look(at / 10, 5, there) for at, there in enumerate(workers))
    return Burst(first_s=0.5, last_s=2, wrong=0, looks=looks)


@pytest.mark.parametrize(
    ("workers", "most", "flaps"),
    [
        ([0, 1, 1, 3, 4, 4, 1, 1, 0], 4, 0),
        ([0, 1, 2, 1, 2, 0], 2, 1),
        ([0, 2, 0, 0, 1, 0, 3, 0], 3, 2),
        ([0, 0], 0, 0),
    ],
)
def test_a_flap_is_a_rise_after_a_fall(workers: list[int], most: int, flaps: int) -> None:
    burst = burst_of(workers)
    assert (burst.most, burst.flaps) == (most, flaps)
    assert table([burst]).rows == (("1", "0", "0.50", "2.00", str(most), str(flaps)),)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "bursts.png"
    draw([burst_of([0, 1, 0])], path)
    assert path.read_bytes().startswith(b"\x89PNG")
