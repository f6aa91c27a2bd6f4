"""How tests wait: until something is so, and no longer than they say."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.fixtures.waiting import eventually, eventually_sync


def nth(count: int) -> Callable[[], int | None]:
    """Something that is so when asked for the `count`th time."""
    asked: list[None] = []

    def condition() -> int | None:
        asked.append(None)
        return len(asked) if len(asked) >= count else None

    return condition


async def hang() -> bool:
    await asyncio.Event().wait()
    return True


async def time_out() -> bool:
    raise TimeoutError("the condition's own")


async def test_waiting_ends_with_what_the_condition_gave() -> None:
    assert await eventually(nth(3)) == 3
    assert eventually_sync(nth(3)) == 3


async def test_what_never_comes_fails_with_what_was_waited_for_as_it_is_by_then() -> None:
    seen: list[str] = []

    def look() -> bool:
        seen.append("a look")
        return False

    with pytest.raises(AssertionError, match=r"not within 0\.05 s: rain, .*a look.*; last False"):
        await eventually(look, within_s=0.05, what=lambda: f"rain, {seen}")
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: rain; last False"):
        eventually_sync(look, within_s=0.05, what="rain")


async def test_a_condition_that_hangs_fails_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match="not within"):
        await eventually(hang, within_s=0.05)
    assert time.monotonic() - began < 5


async def test_a_timeout_of_the_conditions_own_is_not_taken_for_ours() -> None:
    with pytest.raises(TimeoutError, match="own"):
        await eventually(time_out)
