"""What the benchmark makes of its figures: verdicts, tables, the page."""

import re
from pathlib import Path

import msgspec
import pytest

from tests.bench import results
from tests.bench.comparisons import PERCENT, Added, Comparison, Latency, Ratio
from tests.bench.forebay_server import ForwardPasses, WorkerMemory
from tests.bench.goals import COMPARED, GOALS, Standing, judge
from tests.bench.loads import MINILM_1, MINILM_64, NULL_64, SMOLLM2_1, Section
from tests.bench.page import render
from tests.bench.reasons import REASONS
from tests.bench.report import tables
from tests.bench.results import Ran
from tests.bench.session import contender_names
from tests.bench.stats import Spread
from tests.bench.table import Table, figure
from tests.unit.bench_samples import run_of, sample

DOCS = Path(__file__).parents[2] / "docs"
TWICE = Ratio("twice mosec", MINILM_64, "mosec-server", 2)
MOST = Ratio("most of the bare loop", MINILM_64, "bare-sorted", 90, PERCENT)
LITTLE = Added("little", MINILM_1, "bare-row", 0.8)


def goal_against(other: str, words: str = "") -> Comparison:
    """The first line of the goals that compares with this contender and says these words."""
    return next(goal for goal in GOALS if goal.other == other and words in goal.title)


def row_of(page: str, other: str, words: str = "") -> str:
    """What the page says in that line, behind its title."""
    title = f"| {goal_against(other, words).title} | "
    (found,) = [line for line in page.splitlines() if line.startswith(title)]
    return found.removeprefix(title)


def prose(page: str) -> str:
    """The page with its lines joined, however they were filled."""
    return " ".join(page.split())


def test_a_goal_is_met_when_the_median_of_the_rounds_reaches_it() -> None:
    ours = [sample("forebay", MINILM_64, round_, rate) for round_, rate in enumerate((3, 99, 1))]
    theirs = [sample("mosec-server", MINILM_64, round_, 1) for round_ in range(3)]
    verdict = judge(TWICE, [*ours, *theirs])
    assert verdict.value == Spread(3.0, 1.0, 99.0)
    assert verdict.standing is Standing.MET


def test_what_is_missed_is_told_with_its_reason() -> None:
    titles = {goal.title for goal in GOALS}
    assert titles >= REASONS.keys()
    for place in re.findall(r"\]\(([^)]+)\)", " ".join(REASONS.values())):
        assert (DOCS / place).is_file()
    goal = goal_against("mosec-server", "null")
    found = [sample("forebay", NULL_64, 0, 1), sample("mosec-server", NULL_64, 0, 100)]
    page = render(run_of(found))
    assert prose(f"- {goal.title}: {REASONS[goal.title]}.") in prose(page)
    better = [sample("forebay", NULL_64, 0, 20_000), sample("mosec-server", NULL_64, 0, 1)]
    assert "What is not met" not in render(run_of(better))


def test_a_goal_just_missed_is_not_met() -> None:
    found = [sample("forebay", MINILM_64, 0, 199), sample("mosec-server", MINILM_64, 0, 100)]
    assert judge(TWICE, found).standing is Standing.NOT_MET


def test_a_goal_is_not_met_while_anybodys_requests_fail() -> None:
    found = [
        sample("forebay", MINILM_64, 0, 500),
        sample("mosec-server", MINILM_64, 0, 100, failed=7),
    ]
    verdict = judge(TWICE, found)
    assert verdict.standing is Standing.NOT_MET
    assert verdict.note == "7 requests failed"


def test_a_latency_of_our_own_is_judged_beside_nobodys() -> None:
    soon = Latency("soon", SMOLLM2_1, 60)
    found = [sample("forebay", SMOLLM2_1, n, 1, p50_ms=p50) for n, p50 in enumerate((50, 90, 55))]
    verdict = judge(soon, [*found, sample("bare-decode", SMOLLM2_1, 0, 1, p50_ms=1)])
    assert verdict.value == Spread(55, 50, 90)
    assert verdict.standing is Standing.MET
    assert judge(soon, found[1:2]).standing is Standing.NOT_MET


def test_a_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    found = [sample("forebay", MINILM_64, 0, 500)]
    assert judge(TWICE, found).standing is Standing.NOT_MEASURED


def test_a_comparison_without_a_goal_says_so_however_it_turns_out() -> None:
    no_goal = msgspec.structs.replace(TWICE, least=None)
    assert no_goal.goal == ""
    for rate in (1, 100_000):
        found = [sample("forebay", MINILM_64, 0, rate), sample("mosec-server", MINILM_64, 0, 100)]
        assert judge(no_goal, found).standing is Standing.NO_GOAL
    assert judge(no_goal, []).standing is Standing.NOT_MEASURED


@pytest.mark.parametrize(("rate", "standing"), [(93, Standing.MET), (89, Standing.NOT_MET)])
def test_the_share_of_a_bare_loop_is_told_in_per_cent(rate: int, standing: Standing) -> None:
    found = [sample("forebay", MINILM_64, 0, rate), sample("bare-sorted", MINILM_64, 0, 100)]
    verdict = judge(MOST, found)
    assert verdict.value == Spread(rate, rate, rate)
    assert (MOST.goal, verdict.standing) == ("≥ 90 %", standing)


@pytest.mark.parametrize(("p50_ms", "standing"), [(2.7, Standing.MET), (2.9, Standing.NOT_MET)])
def test_added_latency_is_the_difference_of_the_medians_of_one_round(
    p50_ms: float, standing: Standing
) -> None:
    found = [
        sample("forebay", MINILM_1, 0, 1, p50_ms=p50_ms),
        sample("bare-row", MINILM_1, 0, 1, p50_ms=2.0),
    ]
    verdict = judge(LITTLE, found)
    assert verdict.value is not None
    assert verdict.value.median == pytest.approx(p50_ms - 2.0)
    assert (LITTLE.goal, verdict.standing) == ("≤ 0.8 ms", standing)


def test_every_goal_compares_with_a_contender_that_exists() -> None:
    others = {goal.other for goal in (*GOALS, *COMPARED) if goal.other}
    assert others <= set(contender_names())


@pytest.mark.parametrize(
    ("goal", "beside"), [("bare-sorted", "bare-cores"), ("bare-row", "bare-paced")]
)
def test_below_a_goal_against_a_bare_loop_stands_the_other_loop_and_no_goal(
    goal: str, beside: str
) -> None:
    others = [comparison.other for comparison in GOALS]
    assert others.index(beside) == others.index(goal) + 1
    assert goal_against(goal).goal
    assert not goal_against(beside).goal
    loads = [getattr(goal_against(other), "load", None) for other in (goal, beside)]
    assert loads[0] is not None
    assert loads[0] == loads[1]


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
    page = render(run_of(samples, memory=memory))
    assert row_of(page, "celery-fastapi") == "≥ 20× | 30.0× | 30.0–30.0 | met |"
    assert row_of(page, "mosec-server", "MiniLM").endswith(
        " | 1.50× | 1.50–1.50 | **not met** (2 requests failed) |"
    )
    assert row_of(page, "bare-row").endswith(" | – | – | not measured |")
    assert "| peak memory of the worker, minilm | 201 MB | goal ≤ 200 MB: **not met** |" in page
    assert "- Forebay: 2 requests failed." in page


def test_the_page_tells_which_sections_were_measured_on_a_busy_machine() -> None:
    quiet, busy = Ran(Section.COLD, "", "", 1, 1, 0.04), Ran(Section.JOBS, "", "", 1, 1, 0.06)
    page = render(run_of([], sections=[quiet, busy]))
    assert "- `jobs`: the machine was busy with something else meanwhile, 6% of its" in page
    assert "About these runs" not in render(run_of([], sections=[quiet]))


def test_the_page_tells_what_it_takes_to_have_it_again() -> None:
    page = render(run_of([], command="python -m tests.bench --rounds 7"))
    assert "```\npython -m tests.bench --rounds 7\n```\n" in page


def test_the_page_tells_what_is_left_of_a_goal_beside_the_harder_and_the_kinder_loop() -> None:
    samples = [
        sample("forebay", MINILM_64, 0, 90),
        sample("bare-sorted", MINILM_64, 0, 80),
        sample("bare-cores", MINILM_64, 0, 100, failed=1),
        sample("forebay", MINILM_1, 0, 1, p50_ms=3.5),
        sample("bare-paced", MINILM_1, 0, 1, p50_ms=1.5),
    ]
    page = render(run_of(samples))
    assert row_of(page, "bare-sorted").endswith(" | 112 % | 112–112 | met |")
    assert row_of(page, "bare-cores") == "– | 90.0 % | 90.0–90.0 | no goal (1 requests failed) |"
    assert row_of(page, "bare-paced") == "– | 2.00 ms | 2.00–2.00 | no goal |"


@pytest.mark.parametrize(
    ("passes", "told"),
    [
        (ForwardPasses(3, 1, 256), "worker runs 3 forward passes at a time, on 1 thread each,"),
        (ForwardPasses(1, 6, 256), "worker runs 1 forward pass at a time, on 6 threads each,"),
    ],
)
def test_the_page_tells_how_everybody_runs_forward_passes_in_this_very_run(
    passes: ForwardPasses, told: str
) -> None:
    page = prose(render(run_of([], threads=6, max_rows=24, passes=passes)))
    assert "Peers and bare loops run one forward pass at a time, on 6 threads;" in page
    assert told in page
    assert (
        "A batch has at most 24 rows, and Forebay's at most 256 tokens, padding included." in page
    )


def test_no_link_of_the_page_is_broken_in_two() -> None:
    page = render(run_of([], passes=ForwardPasses(2, 1, 256)))
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert len(links) == 4
    assert [link for link in links if not (DOCS / link).is_file()] == []


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
    kept = run_of(
        [sample("forebay", NULL_64, 0, 10, calls={"xadd": 1})], passes=ForwardPasses(2, 1, 256)
    )
    results.write(kept, tmp_path / "new" / "latest.json")
    assert results.read(tmp_path / "new" / "latest.json") == kept
