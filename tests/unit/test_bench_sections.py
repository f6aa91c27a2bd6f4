"""Sections of the benchmark: which are run, what of them is kept, what is told of them."""

import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.bench import usage
from tests.bench.comparisons import Added, Bound, Rate
from tests.bench.efficiency import cost, cpu_us
from tests.bench.goals import Standing, judge
from tests.bench.loads import (
    BY_NAME,
    HITS_64,
    LOADS,
    MINILM_1,
    MINILM_64,
    NULL_64,
    OPEN,
    ZIPF_64,
    HttpContender,
    Load,
    Section,
    Target,
    Workload,
)
from tests.bench.page import render
from tests.bench.plots import draw
from tests.bench.processes import Process
from tests.bench.queued import curve
from tests.bench.report import tables
from tests.bench.results import Ran, merged
from tests.bench.session import TOGETHER, Choice
from tests.bench.stats import Measurement, Spread
from tests.bench.texts import MEAN_WORDS, ZIPF_TEXTS, fixed_texts, zipf_texts
from tests.fixtures.waiting import eventually_sync
from tests.unit.bench_samples import run_of, sample

TARGET = Target("http://h", str.encode, marker="")


def ran(section: Section, command: str = "make bench") -> Ran:
    """A section that was run in full."""
    return Ran(section, "2026-01-01 00:00 UTC", command, 2, 1)


def test_every_load_has_a_name_of_its_own_and_a_section_that_is_run() -> None:
    assert len(BY_NAME) == len(LOADS)
    assert {load.section for load in LOADS} == {each for some in TOGETHER for each in some}


def test_a_run_of_everything_has_all_sections_and_a_quick_one_keeps_none() -> None:
    assert Choice().sections() == [
        Section.COLD,
        Section.QUEUED,
        Section.MIXED,
        Section.FAIR,
        Section.TRACING,
        Section.JOBS,
    ]
    assert Choice().whole() == list(Section)
    assert Choice(quick=True).sections() == []
    assert Choice(quick=True).whole() == []


def test_a_section_that_is_named_is_run_alone_and_kept() -> None:
    cold, opened = Choice(only=("cold",)), Choice(only=("open", "queued"))
    assert (cold.loads(), cold.sections(), cold.whole()) == ([], [Section.COLD], [Section.COLD])
    assert {load.section for load in opened.loads()} == {Section.OPEN}
    assert opened.whole() == [Section.OPEN, Section.QUEUED]


def test_with_an_open_loop_comes_the_closed_one_that_it_is_a_share_of() -> None:
    found = Choice(only=("minilm-open-80",)).loads()
    assert [load.name for load in found] == ["minilm-open-100", "minilm-open-80"]


@pytest.mark.parametrize("only", ["forebay", "minilm-c64", "minilm"])
def test_a_part_of_a_section_is_not_kept(only: str) -> None:
    assert Choice(only=("closed", only)).whole() == []


def test_a_load_among_some_is_put_on_those_only() -> None:
    takes = {
        name: HttpContender(name, name, {Workload.MINILM: TARGET}).takes(ZIPF_64)
        for name in ("forebay", "forebay-uncached", "mosec-server", "ray-server")
    }
    assert takes == {
        "forebay": True, "forebay-uncached": True, "mosec-server": True, "ray-server": False,
    }  # fmt: skip
    assert not HttpContender("forebay-uncached", "", {Workload.MINILM: TARGET}).takes(MINILM_64)


def test_what_is_run_anew_replaces_what_was_kept_of_its_section_and_nothing_else() -> None:
    kept = run_of(
        [sample("forebay", MINILM_64, 0, 1), sample("forebay", OPEN[0], 0, 1)],
        figures={"cold-minilm": Spread(1, 1, 1), "queued-in": Spread(2, 2, 2)},
        sections=[ran(Section.CLOSED), ran(Section.OPEN, "before"), ran(Section.COLD)],
    )
    found = run_of(
        [sample("mosec", OPEN[0], 0, 5)],
        figures={"cold-minilm": Spread(3, 3, 3)},
        sections=[ran(Section.OPEN, "anew")],
    )

    both = merged(kept, found)

    assert [(s.contender, s.load) for s in both.samples] == [
        ("forebay", MINILM_64.name), ("mosec", OPEN[0].name),
    ]  # fmt: skip
    assert both.figures == {"cold-minilm": Spread(3, 3, 3), "queued-in": Spread(2, 2, 2)}
    assert [(r.section, r.command) for r in both.sections] == [
        (Section.CLOSED, "make bench"), (Section.OPEN, "anew"), (Section.COLD, "make bench"),
    ]  # fmt: skip
    assert both.titles == {"forebay": "Forebay", "mosec": "Mosec"}


def test_the_page_tells_when_each_section_was_run() -> None:
    page = render(run_of([], sections=[ran(Section.COLD, "make bench ARGS='--only cold'")]))
    told = "| `cold` | 2026-01-01 00:00 UTC | 2 × 1 s | unknown | `make bench ARGS='--only cold'` |"
    assert told in page


@pytest.mark.parametrize(
    ("value", "standing"),
    [(89, Standing.NOT_MET), (90, Standing.MET), (110, Standing.MET), (111, Standing.NOT_MET)],
)
def test_a_figure_within_its_bounds_meets_its_goal(value: float, standing: Standing) -> None:
    flat = Bound("flat", "queued-in", 90, 110, " %")
    verdict = judge(flat, [], {"queued-in": Spread(value, value, value)})
    assert (flat.goal, verdict.standing) == ("≥ 90 %, ≤ 110 %", standing)
    assert judge(flat, []).standing is Standing.NOT_MEASURED


@pytest.mark.parametrize(("rate", "standing"), [(99, Standing.NOT_MET), (100, Standing.MET)])
def test_a_rate_of_our_own_is_judged_beside_nobodys(rate: int, standing: Standing) -> None:
    assert judge(Rate("hits", HITS_64, 100), [sample("forebay", HITS_64, 0, rate)]).standing is (
        standing
    )


def test_added_latency_is_of_the_percentile_that_is_asked_for() -> None:
    def measured(contender: str, p50: float, p99: float) -> Measurement:
        plain = sample(contender, MINILM_1, 0, 1, p50_ms=p50)
        return msgspec.structs.replace(plain.measured, p99_ms=p99)

    found = [
        msgspec.structs.replace(sample(name, MINILM_1, 0, 1), measured=measured(name, p50, p99))
        for name, p50, p99 in (("forebay", 2, 9), ("bare-row", 1, 5))
    ]
    for share, value in ((0.5, 1), (0.99, 4)):
        verdict = judge(Added("added", MINILM_1, "bare-row", share=share), found)
        assert verdict.value == Spread(value, value, value)


def test_cpu_of_a_request_is_told_by_process_over_all_that_was_sent() -> None:
    found = [
        msgspec.structs.replace(sample("forebay", NULL_64, n, 1_000), cpu_s={"gateway": used})
        for n, used in enumerate((0.1, 0.3))
    ]
    assert cpu_us(found) == {"gateway": pytest.approx(200)}
    assert cpu_us([sample("forebay", NULL_64, 0, 10)]) == {}


def test_a_million_rows_cost_the_whole_machine_for_as_long_as_they_take() -> None:
    assert cost(1_000_000 / 3600, cores=2, price=0.05) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/venv/bin/python -m forebay.cli worker minilm", "worker minilm"),
        ("/venv/bin/python -m forebay.cli gateway", "gateway"),
        ("/venv/bin/python -m forebay.cli background --beat", "heartbeat"),
        ("/venv/bin/python -m forebay.cli background", "background"),
        ("/x/valkey-server 127.0.0.1:6379", "Redis"),
        ("/venv/bin/python litserve_server.py", usage.OTHER),
    ],
)
def test_processes_are_told_apart_by_their_command_lines(command: str, role: str) -> None:
    assert usage.role(command) == role


def test_cpu_between_two_readings_leaves_out_who_used_none() -> None:
    assert usage.used_between({"a": 1.0, "b": 1.0}, {"a": 1.5, "b": 1.0, "c": 0.25}) == {
        "a": 0.5, "c": 0.25,
    }  # fmt: skip


has_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")


@has_proc
def test_a_process_that_is_paused_does_nothing_until_it_is_resumed_or_stopped(
    tmp_path: Path,
) -> None:
    def state() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    process = Process(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ, cwd=tmp_path, log=tmp_path / "log",
    )  # fmt: skip
    try:
        process.pause()
        eventually_sync(lambda: state() == "T")
        process.resume()
        eventually_sync(lambda: state() != "T")
        process.pause()
    finally:
        process.stop()
    assert not Path(f"/proc/{process.pid}").exists()


@has_proc
def test_memory_of_a_process_is_told_with_its_share_of_what_is_shared() -> None:
    (one,) = [one for one in usage.memory([os.getpid()]) if one.rss][:1]
    assert one.rss >= one.pss > 1_000_000
    assert sum(usage.cpu_s([os.getpid()]).values()) > 0


def test_texts_of_one_length_are_of_one_length_and_none_comes_twice() -> None:
    texts = fixed_texts(3_000, seed="a")
    assert {len(text.split()) for text in texts} == {MEAN_WORDS}
    assert len(set(texts)) == 3_000


def test_some_texts_of_zipfs_law_come_often_and_all_are_of_the_known_ones() -> None:
    one, other = (Counter(zipf_texts(20_000, seed=seed)) for seed in ("a", "b"))
    assert len(one) <= ZIPF_TEXTS
    (first, often), (_, second) = one.most_common(2)
    # With the power 1 the first comes twice as often as the second, about 1 in 8 of all.
    assert 1.6 < often / second < 2.5
    assert other.most_common(1)[0][0] == first
    assert other != one


def test_the_long_line_is_told_as_far_as_it_was_measured() -> None:
    figures = {
        f"queued-{way}-at-{length}": Spread(rate, rate, rate)
        for way, rate in (("in", 30_000.0), ("out", 20_000.0))
        for length in (0, 10_000)
    }
    assert curve(figures) == [(0, 30_000, 20_000), (10_000, 30_000, 20_000)]
    (line,) = [table for table in tables(run_of([], figures=figures)) if table.heads[1:]
               and table.heads[0] == "rows that wait"]  # fmt: skip
    assert line.rows == (("0", "30,000", "20,000"), ("10,000", "30,000", "20,000"))


def test_pictures_are_drawn_of_what_was_measured_and_are_on_the_page(tmp_path: Path) -> None:
    loads = [Load(Workload.NULL, c) for c in (1, 16, 64)]
    found = run_of(
        [sample("forebay", load, 0, 10 * load.concurrency, p50_ms=1.0) for load in loads],
        figures={
            f"queued-{way}-at-{length}": Spread(1, 1, 1)
            for way in ("in", "out")
            for length in (0, 10_000)
        },
    )

    drawn = draw(found, tmp_path / "images")

    assert [one.file for one in drawn] == [
        "bench-null-c64.png", "bench-null-growth.png", "bench-queued.png",
    ]  # fmt: skip
    assert all((tmp_path / "images" / one.file).read_bytes()[1:4] == b"PNG" for one in drawn)
    assert all(f"](images/{one.file})" in render(found, drawn=drawn) for one in drawn)
