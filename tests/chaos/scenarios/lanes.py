"""A lane that is filled to its bound, by clients who do not wait as they are told to."""

import asyncio
import time
from collections.abc import Sequence

from tests.chaos.clients import Load
from tests.chaos.flood import CLIENTS, Flood
from tests.chaos.odd import Batch
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import Scene, beside, scene
from tests.fixtures.waiting import eventually

GATEWAY_GROWTH_BYTES = 16_000_000
RECORD_BYTES = 3_000
"""More than the server takes for one prediction that was accepted."""
SERVER_GROWTH_BYTES = 4_000_000

GOAL_MS = 5.0
LEAST_RATE = 0.85
"""Of the rate at which rows run without a flood, so much must be left. Whole runs only."""

Span = tuple[float, float]
"""From and to, Unix time."""


async def full(short: bool) -> Outcome:
    """Fill a lane; then flood it."""
    bound, alone_s, flood_s = (400, 1.0, 3) if short else (2_000, 8.0, 30)
    outcome = Outcome()
    limits = {"max_rows": 16, "prefetch_rows": 32}
    async with scene(batch=limits, bulk={"max_rows": bound}) as stage:
        gateway = await stage.gateway()
        load = Load([gateway.http], waiting_every=0)
        await load.feed(bound, 0.0)
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, await stage.audit.demand())
                await asyncio.sleep(0.02)

        async with beside(look):
            await stage.odd_worker(run_s=0.1)
            await eventually(stage.begun, what="a batch has begun")
            alone = await _span(alone_s)
            flood = Flood(gateway.http, load, stage.folder)
            # Until it is full again, and everything has been grown that grows once.
            await flood.run(flood_s // 3)
            before, accepted = await _memory(stage), len(load.values)
            began = time.time()
            flood.refusals_ms.clear()
            await flood.run(flood_s)
            flooded = (began, time.time())
            after = await _memory(stage)
        await stage.drained(outcome, list(load.values))
        await stage.audit.tally(load, gateway.http, outcome)
        begun = stage.begun()
        rate, flood_rate = _rate(begun, alone), _rate(begun, flooded)
        grown = [now - then for now, then in zip(after, before, strict=True)]
        allowed = SERVER_GROWTH_BYTES + RECORD_BYTES * (len(load.values) - accepted)
        outcome.all_succeed(len(load.values))
        outcome.promise(set(load.refused) == {429}, f"clients were answered {load.setbacks}")
        outcome.promise(not flood.rude, f"{flood.rude} refusals had no Retry-After")
        outcome.promise(most <= bound, f"the lane held {most} rows, over its {bound}")
        outcome.promise(grown[0] < GATEWAY_GROWTH_BYTES, f"the gateway grew by {grown[0]:,} bytes")
        outcome.promise(grown[1] < allowed, f"the server grew by {grown[1]:,} bytes")
        if not short:
            outcome.promise(
                flood_rate >= LEAST_RATE * rate,
                f"{flood_rate:.0f} rows/s ran in the flood, {rate:.0f} without it",
            )
        p50, p99 = _percentile(flood.refusals_ms, 0.5), _percentile(flood.refusals_ms, 0.99)
        refused = len(flood.refusals_ms)
        outcome.done = f"a lane of {bound:,} rows kept full for {flood_s} s; {refused:,} refusals"
        outcome.notes += [
            f"{refused / flood_s:.0f} refusals a second to {CLIENTS} clients ({flood.program}): "
            f"{p50:.1f} ms in the median, p99 {p99:.1f} ms (goal {GOAL_MS:g} ms: "
            f"{'met' if p99 < GOAL_MS else 'missed'})",
            f"rows run a second: {rate:.0f} without the flood, {flood_rate:.0f} in it",
            f"memory grew by {grown[0] / 1e6:.1f} MB in the gateway and {grown[1] / 1e6:.1f} MB in "
            f"the server, which keeps {len(load.values) - accepted:,} results more",
        ]
    return outcome


async def _span(seconds: float) -> Span:
    began = time.time()
    await asyncio.sleep(seconds)
    return began, time.time()


def _rate(begun: Sequence[Batch], span: Span) -> float:
    """Rows begun a second."""
    start, end = span
    return sum(len(batch.rows) for batch in begun if start <= batch.at < end) / (end - start)


async def _memory(stage: Scene) -> tuple[int, int]:
    """What the gateways hold, and what the server does, in bytes."""
    gateways = sum(p.rss_bytes for p in stage.programs if p.name.startswith("gateway"))
    return gateways, await stage.audit.used_memory()


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


SCENARIOS = (
    Scenario(
        "full-lane",
        "Lane full",
        "A lane is kept at its bound: what does not fit is refused with 429 and Retry-After, the "
        "memory of gateway and server stays flat, and those admitted are served as fast as before.",
        full,
    ),
)
