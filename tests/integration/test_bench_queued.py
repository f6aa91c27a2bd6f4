"""Rows of the benchmark's long line, on a real server."""

from pathlib import Path

import pytest

from tests.bench import redis_server
from tests.bench.queued import side

ROOT = Path(__file__).parents[2]


async def test_rows_enter_a_lane_take_memory_there_and_leave_it(tmp_path: Path) -> None:
    with redis_server.serve(folder=tmp_path, log=tmp_path / "log") as url:
        async with side(url, tmp_path, ROOT / "models.toml") as line:
            before = await line.used_bytes()
            assert await line.enter(5_000) > 0
            assert line.rows == 5_000
            assert await line.used_bytes() > before + 5_000 * 100
            assert await line.leave(5_000) > 0
            with pytest.raises(RuntimeError, match="1 rows that were enqueued are not on the lane"):
                await line.leave(1)
