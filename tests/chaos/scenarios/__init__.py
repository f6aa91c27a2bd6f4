"""Every scenario, in the order of the table."""

from tests.chaos.outcome import Scenario
from tests.chaos.scenarios import (
    background,
    batches,
    durability,
    failovers,
    gateways,
    lanes,
    leavers,
    rows,
    servers,
    signals,
    streams,
    webhooks,
    workers,
)

SCENARIOS: tuple[Scenario, ...] = (
    *workers.SCENARIOS,
    *servers.SCENARIOS,
    *durability.SCENARIOS,
    *failovers.SCENARIOS,
    *gateways.SCENARIOS,
    *rows.SCENARIOS,
    *lanes.SCENARIOS,
    *streams.SCENARIOS,
    *leavers.SCENARIOS,
    *signals.SCENARIOS,
    *background.SCENARIOS,
    *batches.SCENARIOS,
    *webhooks.SCENARIOS,
)
