"""The benchmark's own arithmetic and reading. How fast anything is, is no test."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import msgspec
import pytest

from tests.bench import peer, results
from tests.bench.check import cosine
from tests.bench.forebay_server import WorkerMemory, read_redis_url, read_worker_model
from tests.bench.goals import COMPARED, GOALS, judge, redis_calls_per_request
from tests.bench.loads import MINILM_1, MINILM_64, NULL_64, Load, Texts, Workload
from tests.bench.machine import Machine, differing
from tests.bench.neighbours import Neighbours, used_s
from tests.bench.page import render
from tests.bench.processes import Process, StartError, descendants
from tests.bench.redis_server import called_between
from tests.bench.results import Results
from tests.bench.rounds import plan
from tests.bench.session import Choice, contender_names
from tests.bench.stats import Measurement, Sample, Spread, differences, percentile, ratios, spread
from tests.bench.tables import Table, figure, tables
from tests.bench.texts import LONGEST_WORDS, SHORTEST_WORDS, make_texts
from tests.bench.wrk import LoadFailedError, read_tally

TALLY = (
    '{"responses":1500,"right":1000,"wrong":3,"connect":1,"read":2,"write":0,"timeout":4,'
    '"counted_us":2000000,"p50_us":1500,"p90_us":2500,"p99_us":9000}'
)
NULL_VERDICT, MOSEC_VERDICT, BARE_VERDICT, ADDED_VERDICT = range(4)


def sample(
    contender: str,
    load: Load,
    round_: int,
    answered: int,
    *,
    failed: int = 0,
    p50_ms: float | None = None,
    calls: Mapping[str, int] | None = None,
) -> Sample:
    """A second of `answered` requests, with as many sent."""
    measured = Measurement(answered, failed, 1.0, answered, p50_ms, p50_ms, p50_ms)
    return Sample(contender, load.name, round_, measured, dict(calls or {}))


def machine(**changed: object) -> Machine:
    """A machine that nobody has."""
    versions = {"numpy": "1", "onnxruntime": "2", "tokenizers": "3"}
    plain = Machine(
        "Linux", "A processor", 2, 8.0, "3.11.0", "wrk 4", "Valkey 9", versions, versions
    )
    return msgspec.structs.replace(plain, **changed)


def run_of(samples: list[Sample], **changed: object) -> Results:
    """Results around some samples."""
    titles = dict.fromkeys(s.contender for s in samples)
    plain = Results(
        started_at="2026-01-01 00:00 UTC",
        command="make bench",
        partial=False,
        rounds=2,
        seconds=1,
        threads=2,
        max_rows=32,
        artifact="abc",
        machine=machine(),
        titles={name: name.capitalize() for name in titles},
        samples=samples,
    )
    return msgspec.structs.replace(plain, **changed)


def test_a_spread_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


def test_ratios_are_taken_round_by_round_and_not_between_medians() -> None:
    # The machine was twice as slow in the second round, for both alike.
    assert ratios({0: 100.0, 1: 50.0}, {0: 10.0, 1: 5.0}) == [10.0, 10.0]


def test_a_round_that_one_of_two_has_not_been_through_is_not_compared() -> None:
    assert ratios({0: 100.0, 1: 50.0}, {1: 5.0, 2: 1.0}) == [10.0]
    assert differences({0: 3.0, 1: 2.0}, {0: 1.0}) == [2.0]


def test_a_round_in_which_the_other_answered_nothing_gives_no_ratio() -> None:
    assert ratios({0: 100.0}, {0: 0.0}) == []


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_measurement_of_no_time_has_no_rate() -> None:
    assert Measurement(5, 0, 0.0, 5).rate == 0.0


def test_a_tally_is_read_from_the_last_line_that_wrk_wrote() -> None:
    measured = read_tally(f"something wrk complained of\n{TALLY}\n").measurement(64)
    assert measured.seconds == 2.0
    assert (measured.p50_ms, measured.p90_ms, measured.p99_ms) == (1.5, 2.5, 9.0)


def test_wrong_late_and_lost_requests_are_failures_and_no_throughput() -> None:
    measured = read_tally(TALLY).measurement(64)
    assert measured.failed == 3 + 4 + 1 + 2
    assert measured.answered == 1000 - 4
    assert measured.rate == 498.0


def test_a_stretch_without_any_answer_has_no_latency() -> None:
    tally = msgspec.structs.replace(read_tally(TALLY), responses=0, right=0, p50_us=0)
    assert tally.measurement(64).p50_ms is None


def test_requests_that_wrk_hung_up_on_were_sent_too() -> None:
    assert read_tally(TALLY).measurement(64).sent == 1500 + 64


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", "gave no tally"),
        ("unable to connect to 127.0.0.1:1", "unable to connect"),
        ('{"responses":1}', "responses"),
    ],
)
def test_a_wrk_that_gives_no_tally_is_an_error_with_its_words(stderr: str, words: str) -> None:
    with pytest.raises(LoadFailedError, match=words):
        read_tally(stderr)


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


def test_redis_commands_are_counted_for_one_request_over_all_rounds() -> None:
    found = [
        sample("forebay", NULL_64, 0, 100, calls={"evalsha": 10, "xadd": 100}),
        sample("forebay", NULL_64, 1, 300, calls={"evalsha": 10, "xadd": 300}),
        sample("mosec-server", NULL_64, 0, 100),
    ]
    assert redis_calls_per_request(found, NULL_64) == {"evalsha": 0.05, "xadd": 1.0}


def test_only_commands_called_in_between_are_counted() -> None:
    before, after = {"xadd": 5, "get": 2}, {"xadd": 9, "get": 2, "evalsha": 1}
    assert called_between(before, after) == {"evalsha": 1, "xadd": 4}


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


def test_texts_are_the_same_each_time_and_no_two_are_equal() -> None:
    texts = make_texts(3_000, seed="a")
    assert texts == make_texts(3_000, seed="a")
    assert len(set(texts)) == 3_000
    assert texts != make_texts(3_000, seed="b")


def test_texts_have_seventeen_words_on_average_and_very_mixed_lengths() -> None:
    lengths = [len(text.split()) for text in make_texts(4_000, seed="lengths")]
    assert 16.5 < mean(lengths) < 18
    assert min(lengths) >= SHORTEST_WORDS
    assert max(lengths) <= LONGEST_WORDS
    assert sum(length > 34 for length in lengths) > 200


def test_texts_are_written_once_for_each_encoding(tmp_path: Path) -> None:
    texts = Texts("round-0", ("a", "b"), tmp_path)
    path = texts.written("txt", str.encode)
    assert path.read_bytes() == b"a\nb\n"
    assert texts.written("txt", lambda _: b"never called") == path
    assert path.read_bytes() == b"a\nb\n"


class Everything:
    """Takes every load and can't be measured."""

    extra = False

    def __init__(self, name: str) -> None:
        self.name = self.title = name

    def takes(self, load: Load) -> bool:
        return load.workload is Workload.NULL or self.name == "a"

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        raise NotImplementedError

    def settle(self, load: Load) -> int:
        raise NotImplementedError


def test_contenders_take_turns_within_each_load_of_each_round() -> None:
    steps = plan([Everything("a"), Everything("b")], [NULL_64, MINILM_64], rounds=2)
    once = [("a", NULL_64), ("b", NULL_64), ("a", MINILM_64)]
    assert [(step.contender.name, step.load) for step in steps] == once * 2
    assert [step.round for step in steps] == [0, 0, 0, 1, 1, 1]


def test_a_quick_run_leaves_out_what_is_extra() -> None:
    assert not Choice(quick=True).has_contender("mosec-sorted", extra=True)
    assert Choice(quick=True).has_contender("mosec-server", extra=False)
    assert [load.name for load in Choice(quick=True).loads()] == [
        "null-c1", "null-c64", "minilm-c1", "minilm-c64",
    ]  # fmt: skip


def test_what_is_named_in_full_takes_part_even_if_it_is_extra() -> None:
    choice = Choice(only=("mosec-sorted", "null-c16"), quick=True)
    assert choice.has_contender("mosec-sorted", extra=True)
    assert not choice.has_contender("mosec-server", extra=False)
    assert [load.name for load in choice.loads()] == ["null-c16"]


def test_naming_a_family_takes_its_members() -> None:
    choice = Choice(only=("mosec", "minilm"))
    assert choice.has_contender("mosec-sorted", extra=True)
    assert choice.has_contender("mosec-server", extra=False)
    assert not choice.has_contender("forebay", extra=False)
    assert {load.workload for load in choice.loads()} == {Workload.MINILM}


def test_a_name_that_stands_for_nothing_is_told() -> None:
    assert Choice(only=("forebay", "minilm", "mosec", "triton")).unknown(contender_names()) == [
        "triton"
    ]


def test_every_peer_says_how_it_is_started_and_asked() -> None:
    found = {each.name: each for each in peer.find()}
    assert set(found) == {"celery-fastapi", "mosec-server", "mosec-sorted"}
    for each in found.values():
        assert each.path.startswith("/")
        assert any("{port}" in command for command in each.commands)


def test_a_file_without_a_header_is_no_peer() -> None:
    assert peer.read_header('"""A module."""\n') is None
    assert peer.read_header("# /// script\n# dependencies = []\n# ///\n") is None


def test_a_header_with_a_field_we_do_not_know_is_refused() -> None:
    source = (
        '# /// script\n# [tool.bench]\n# title = "x"\n# apps = []\n# path = "/"\n'
        "# redis = false\n# commands = []\n# colour = 1\n# ///\n"
    )
    with pytest.raises(msgspec.ValidationError, match="colour"):
        peer.read_header(source)


def test_every_pin_of_the_peers_is_exact() -> None:
    lines = peer.REQUIREMENTS.read_text("utf-8").splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    assert {"mosec", "fastapi", "celery", "uvicorn"} <= set(peer.pins())


def test_libraries_that_differ_between_the_two_environments_are_told() -> None:
    assert differing(machine()) == []
    theirs = {"numpy": "1", "onnxruntime": "9", "tokenizers": "3"}
    assert differing(machine(theirs=theirs)) == ["onnxruntime is 2 here and 9 for the peers"]


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("/x/valkey-server 127.0.0.1:40123", "redis://127.0.0.1:40123/0"),
        ("redis-server *:6379", "redis://127.0.0.1:6379/0"),
        ("python -m forebay.cli gateway --port 6379", None),
    ],
)
def test_a_redis_is_found_by_the_title_it_gives_itself(command: str, url: str | None) -> None:
    assert read_redis_url(command) == url


def test_a_worker_is_known_by_the_model_it_serves() -> None:
    assert read_worker_model("/x/python -m forebay.cli worker minilm") == "minilm"
    assert read_worker_model("/x/python -m forebay.cli gateway") is None
    assert read_worker_model("celery worker minilm") is None


def test_cosine_is_one_for_the_same_direction_and_zero_without_length() -> None:
    assert cosine([1.0, 2.0], [2.0, 4.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [0.0, 1.0]) == 0.0
    assert cosine([0.0, 0.0], [1.0, 1.0]) == 0.0


def running(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


has_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")

SESSION_LEADER = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
    "start_new_session=True); time.sleep(60)"
)


@has_proc
def test_our_own_work_is_not_counted_as_the_neighbours() -> None:
    neighbours, before = Neighbours(), used_s(os.getpid())
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert used_s(os.getpid()) - before >= 0.15
    share = neighbours.share()
    assert share is not None
    assert 0.0 <= share <= 1.1


@has_proc
def test_stopping_a_process_ends_what_it_started_in_other_sessions_too(tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-c", SESSION_LEADER], env=os.environ, cwd=tmp_path, log=tmp_path / "log"
    )
    deadline = time.monotonic() + 10
    while not (below := descendants(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.stop()
    assert len(below) == 1
    while running(below[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(below[0])


@has_proc
def test_a_process_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"],
        env=os.environ, cwd=tmp_path, log=tmp_path / "log",
    )  # fmt: skip
    deadline = time.monotonic() + 10
    while running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(StartError, match=r"ended with 3(.|\n)*out of luck"):
        process.check()
    process.stop()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-program"):
        Process(["no-such-program"], env={}, cwd=tmp_path, log=tmp_path / "log")
