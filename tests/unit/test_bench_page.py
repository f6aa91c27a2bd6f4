"""What the benchmark makes of its figures: verdicts, tables, the page."""

from pathlib import Path

import pytest

from tests.bench import results
from tests.bench.forebay_server import WorkerMemory
from tests.bench.goals import COMPARED, GOALS, judge
from tests.bench.loads import MINILM_1, MINILM_64, NULL_64
from tests.bench.page import render
from tests.bench.session import contender_names
from tests.bench.stats import Spread
from tests.bench.tables import Table, figure, tables
from tests.unit.bench_samples import run_of, sample

NULL_VERDICT, MOSEC_VERDICT, BARE_VERDICT, ADDED_VERDICT = range(4)


def test_a_goal_is_met_when_the_median_of_the_rounds_reaches_it() -> None:
    ours = [sample("forebay", NULL_64, round_, rate) for round_, rate in enumerate((900, 2100, 50))]
    theirs = [sample("celery-fastapi", NULL_64, round_, 1) for round_ in range(3)]
    verdict = judge(GOALS[NULL_VERDICT], [*ours, *theirs])
    assert verdict.value == Spread(900.0, 50.0, 2100.0)
    assert verdict.met is True


def test_a_goal_just_missed_is_not_met() -> None:
    found = [sample("forebay", MINILM_64, 0, 199), sample("mosec-server", MINILM_64, 0, 100)]
    assert judge(GOALS[MOSEC_VERDICT], found).met is False


def test_a_goal_is_not_met_while_anybodys_requests_fail() -> None:
    found = [
        sample("forebay", MINILM_64, 0, 500),
        sample("mosec-server", MINILM_64, 0, 100, failed=7),
    ]
    verdict = judge(GOALS[MOSEC_VERDICT], found)
    assert verdict.met is False
    assert verdict.note == "7 requests failed"


def test_a_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert judge(GOALS[BARE_VERDICT], [sample("forebay", MINILM_64, 0, 500)]).met is None


def test_the_share_of_the_bare_loop_is_told_in_per_cent() -> None:
    found = [sample("forebay", MINILM_64, 0, 93), sample("bare-sorted", MINILM_64, 0, 100)]
    verdict = judge(GOALS[BARE_VERDICT], found)
    assert verdict.value == Spread(93.0, 93.0, 93.0)
    assert (verdict.goal, verdict.unit, verdict.met) == ("≥ 90 %", "%", True)


@pytest.mark.parametrize(("p50_ms", "met"), [(2.7, True), (2.9, False)])
def test_added_latency_is_the_difference_of_the_medians_of_one_round(
    p50_ms: float, met: bool
) -> None:
    found = [
        sample("forebay", MINILM_1, 0, 1, p50_ms=p50_ms),
        sample("bare-row", MINILM_1, 0, 1, p50_ms=2.0),
    ]
    verdict = judge(GOALS[ADDED_VERDICT], found)
    assert verdict.value is not None
    assert verdict.value.median == pytest.approx(p50_ms - 2.0)
    assert verdict.met is met


def test_every_goal_compares_with_a_contender_that_exists() -> None:
    assert {goal.other for goal in (*GOALS, *COMPARED)} <= set(contender_names())


@pytest.mark.parametrize(
    ("value", "told"),
    [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0.00")],
)
def test_figures_have_three_digits(value: float, told: str) -> None:
    assert figure(value) == told


def test_a_table_in_markdown_has_its_figures_to_the_right() -> None:
    table = Table("Title", ("", "per s"), (("one", "1"), ("two", "2")))
    assert table.markdown() == "|  | per s |\n| --- | ---: |\n| one | 1 |\n| two | 2 |"


def test_the_page_tells_goals_missed_as_plainly_as_goals_met() -> None:
    samples = [
        sample("forebay", NULL_64, 0, 300),
        sample("celery-fastapi", NULL_64, 0, 10),
        sample("forebay", MINILM_64, 0, 150, failed=2),
        sample("mosec-server", MINILM_64, 0, 100),
    ]
    memory = [WorkerMemory("minilm", 201_000_000), WorkerMemory("echo", 50_000_000)]
    page = render(run_of(samples, memory=memory, notes=["It rained."]))
    assert "| null path, c=64, against FastAPI + Celery | ≥ 20× | 30.0× | 30.0–30.0 | met |" in page
    assert "| 1.50× | 1.50–1.50 | **not met** (2 requests failed) |" in page
    assert "| added to the bare model at c=1, p50 | ≤ 0.8 ms | – | – | not measured |" in page
    assert "| peak memory of the worker, minilm | 201 MB | goal ≤ 200 MB: **not met** |" in page
    assert "- It rained." in page
    assert "make bench" in page


def test_every_table_has_as_many_cells_in_each_row_as_heads() -> None:
    calls = {"evalsha": 3}
    samples = [
        sample("forebay", load, 0, 10, p50_ms=1.0, calls=calls)
        for load in (NULL_64, MINILM_1, MINILM_64)
    ]
    samples.append(sample("mosec-server", NULL_64, 0, 10))
    found = tables(run_of(samples, memory=[WorkerMemory("minilm", 1)]))
    assert len(found) == 5
    assert all(len(row) == len(table.heads) for table in found for row in table.rows)


@pytest.mark.parametrize(("share", "told"), [(0.034, "3% of the cores' time"), (None, "unknown")])
def test_the_page_tells_how_much_of_the_machine_others_used(share: float | None, told: str) -> None:
    assert f"| used by others meanwhile | {told} |" in render(run_of([], neighbours=share))


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    kept = run_of([sample("forebay", NULL_64, 0, 10, calls={"xadd": 1})])
    results.write(kept, tmp_path / "new" / "latest.json")
    assert results.read(tmp_path / "new" / "latest.json") == kept
