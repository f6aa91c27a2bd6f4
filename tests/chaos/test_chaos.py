"""Each scenario of `make chaos` in its short form."""

import pytest

from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scenarios import SCENARIOS


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_the_promise_is_kept(scenario: Scenario) -> None:
    outcome: Outcome = await scenario.play(True)
    assert outcome.broken == [], outcome
