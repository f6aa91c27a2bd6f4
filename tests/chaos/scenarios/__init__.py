"""Every scenario, in the order of the table."""

from tests.chaos.outcome import Scenario
from tests.chaos.scenarios import workers

SCENARIOS: tuple[Scenario, ...] = (*workers.SCENARIOS,)
