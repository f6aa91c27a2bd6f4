"""What takes part in a run of the benchmark, in which order, and how it is started and ended."""

import hashlib
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.bench import environments, peer
from tests.bench.bare import BareProcess, Order
from tests.bench.dialects import Dialect
from tests.bench.forebay_server import read_redis_url, read_worker_model
from tests.bench.loads import MINILM_64, NULL_64, Load, Texts, Workload
from tests.bench.machine import cores, differing
from tests.bench.neighbours import Neighbours, machine_busy_s, used_s
from tests.bench.processes import Process, StartError, descendants
from tests.bench.rounds import plan
from tests.bench.session import Choice, contender_names
from tests.bench.stats import Measurement
from tests.fixtures.waiting import eventually_sync
from tests.unit.bench_samples import machine

ROOT = Path(__file__).parents[2]


class Entrant:
    """`a` takes every load, any other the null path only. None can be measured."""

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
    steps = plan([Entrant("a"), Entrant("b")], [NULL_64, MINILM_64], rounds=2)
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


@pytest.mark.parametrize(
    ("only", "taking_part"),
    [((), True), (("forebay",), True), (("forebay-base64",), True), (("mosec", "minilm"), False)],
)
def test_forebay_is_started_in_whichever_way_it_is_asked(
    only: tuple[str, ...], taking_part: bool
) -> None:
    assert Choice(only).has_forebay() is taking_part


def test_a_name_that_stands_for_nothing_is_told() -> None:
    assert Choice(only=("forebay", "minilm", "mosec", "triton")).unknown(contender_names()) == [
        "triton"
    ]


def test_every_peer_says_how_it_is_started_and_asked() -> None:
    found = {each.name: each for each in peer.find()}
    assert {"bentoml-server", "celery-fastapi", "infinity-server", "ray-server"} <= set(found)
    for each in found.values():
        assert each.path.startswith("/")
        assert any("{port}" in command for command in each.commands)
        assert each.environment in environments.names()


def test_a_command_gets_what_it_leaves_blank() -> None:
    settings = peer.PeerSettings(
        Path("a"), Path("t"), 2, 32, "redis://h", {Workload.MINILM: Path("/the weights")}
    )
    command = "serve --model {weights} --rows={max_rows} {threads} {port}"
    expected = ["serve", "--model", "/the weights", "--rows=32", "2", "80"]
    assert settings.command(command, Workload.MINILM, 80) == expected


@pytest.mark.parametrize(
    ("dialect", "body", "answer"),
    [
        (Dialect.PLAIN, b'{"input": "a"}', b'{"embedding": [1.0, 2.0]}'),
        (Dialect.LIST, b'{"input": ["a"]}', b"[[1.0, 2.0]]"),
        (
            Dialect.OPENAI,
            b'{"model": "minilm", "input": "a"}',
            b'{"data": [{"embedding": [1.0, 2.0]}]}',
        ),
    ],
)
def test_a_peer_is_asked_in_its_own_dialect(dialect: Dialect, body: bytes, answer: bytes) -> None:
    target = dialect.target("http://h", Workload.MINILM)
    assert target.encode("a") == body
    assert target.marker in answer.decode()
    assert target.vector is not None
    assert target.vector(answer) == [1.0, 2.0]


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


@pytest.mark.parametrize("name", environments.names())
def test_every_pin_of_the_peers_is_exact(name: str) -> None:
    lines = environments.requirements(name).read_text("utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    assert all("==" in line and "+" not in line for line in packages)


def test_peers_that_run_the_artifact_do_so_on_the_same_libraries() -> None:
    everywhere = [environments.pins(name) for name in environments.names()]
    running = [pins for pins in everywhere if "onnxruntime" in pins]
    assert len(running) > 1
    for library in environments.SHARED_WITH_BARE:
        assert len({pins[library] for pins in running}) == 1


def test_an_environment_is_made_once_for_the_same_requirements(tmp_path: Path) -> None:
    digest = hashlib.sha256(environments.requirements("serving").read_bytes()).hexdigest()
    folder = tmp_path / ".peers-serving"
    folder.mkdir()
    (folder / "requirements.sha256").write_text(digest)

    def tell(line: str) -> None:
        raise AssertionError(line)

    assert environments.prepare(tmp_path / ".peers", "serving", tell=tell) == folder / "bin"


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
    began, busy_s = time.monotonic(), machine_busy_s()
    neighbours, ours_s = Neighbours(), used_s(os.getpid())
    until = time.process_time() + 1.0
    while time.process_time() < until:
        pass
    share = neighbours.share()
    elapsed_s = time.monotonic() - began
    assert used_s(os.getpid()) - ours_s >= 0.9
    whole_s = machine_busy_s()
    assert share is not None
    assert busy_s is not None
    assert whole_s is not None
    # All that the machine has done, less half of what we have.
    assert share * elapsed_s * cores() <= whole_s - busy_s - 0.5


@has_proc
def test_stopping_a_process_ends_what_it_started_in_other_sessions_too(tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-c", SESSION_LEADER], env=os.environ, cwd=tmp_path, log=tmp_path / "log"
    )
    try:
        (below,) = eventually_sync(lambda: descendants(process.pid))
    finally:
        process.stop()
    eventually_sync(lambda: not running(below))


@has_proc
def test_a_process_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"],
        env=os.environ, cwd=tmp_path, log=tmp_path / "log",
    )  # fmt: skip
    eventually_sync(lambda: not running(process.pid))
    with pytest.raises(StartError, match=r"ended with 3(.|\n)*out of luck"):
        process.check()
    process.stop()


def test_a_bare_loop_that_has_ended_is_told_with_its_log(tmp_path: Path) -> None:
    nothing, log = tmp_path / "none", tmp_path / "bare.log"
    process = BareProcess(nothing, nothing, threads=1, root=ROOT, log=log)
    with pytest.raises(StartError, match=r"has ended: see .*bare\.log"):
        process.run(Order("row", "none"))
    process.stop()
    assert "none" in log.read_text()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-program"):
        Process(["no-such-program"], env={}, cwd=tmp_path, log=tmp_path / "log")
