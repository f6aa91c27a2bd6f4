"""Every scenario, in the order of the table."""

from tests.chaos.outcome import Scenario
from tests.chaos.scenarios import background, gateways, rows, servers, workers

SCENARIOS: tuple[Scenario, ...] = (
    *workers.SCENARIOS,
    *servers.SCENARIOS,
    *gateways.SCENARIOS,
    *rows.SCENARIOS,
    *background.SCENARIOS,
)
