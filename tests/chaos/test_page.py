"""A broken promise is told: in the verdict, in the table, on the page, and by the exit status."""

import re

import pytest
import typer

from tests.chaos import page, run
from tests.chaos.outcome import Outcome, Scenario, Tally


def scenario(name: str, outcome: Outcome) -> Scenario:
    async def play(short: bool) -> Outcome:
        return outcome

    return Scenario(name, name.title(), f"Promise of {name}.", play)


KEPT = Outcome("all", Tally(1_000, 990, 10, 0, 0, 3), notes=["as it should be"])
BROKEN = Outcome("some", Tally(10, 9, 0, 1, 0, 0), broken=["1 accepted predictions are lost"])


def test_a_promise_that_does_not_hold_breaks_the_verdict() -> None:
    outcome = Outcome()
    outcome.promise(True, "never told")
    assert outcome.verdict == "kept"
    outcome.promise(False, "told")
    assert (outcome.verdict, outcome.broken) == ("broken", ["told"])


def test_the_page_has_every_count_every_broken_promise_and_how_to_repeat_it() -> None:
    played = [
        page.Played(scenario(name, outcome), outcome)
        for name, outcome in (("first", KEPT), ("second", BROKEN))
    ]
    told = page.render(page.Run("2026-01-01 10:00 UTC", "make chaos", "2 cores", played))
    assert "| First | all | 1,000 | 990 | 10 | 0 | 0 | 3 | kept |" in told
    assert "| Second | some | 10 | 9 | 0 | 1 | 0 | 0 | broken |" in told
    assert "- **Broken:** 1 accepted predictions are lost." in told
    assert "- As it should be." in told
    assert "$ make chaos" in told
    assert max(map(len, re.findall(r"^[^|<].*$", told, re.MULTILINE))) <= 100


@pytest.mark.parametrize(("outcome", "status"), [(KEPT, 0), (BROKEN, 1)])
def test_the_exit_status_is_1_if_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, status: int
) -> None:
    monkeypatch.setattr(run, "SCENARIOS", (scenario("one", outcome),))
    with pytest.raises(typer.Exit) as exit_:
        run.chaos(short=True)
    assert exit_.value.exit_code == status


def test_a_scenario_that_fails_itself_has_not_kept_its_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(short: bool) -> Outcome:
        raise AssertionError("no server")

    monkeypatch.setattr(run, "SCENARIOS", (Scenario("one", "One", "It plays.", play),))
    with pytest.raises(typer.Exit) as exit_:
        run.chaos(short=True)
    assert exit_.value.exit_code == 1


def test_an_unknown_name_is_no_run() -> None:
    with pytest.raises(typer.Exit) as exit_:
        run.chaos(only=["nothing"])
    assert exit_.value.exit_code == run.CANT_RUN
