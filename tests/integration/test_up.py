"""`forebay up`, started as users start it, on a free port and in a home of its own."""

import contextlib
import functools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.grpc as triton

from forebay.local.server import free_port
from forebay.storage.footprints import Footprint, Footprints
from tests.fixtures.ballast import catalog
from tests.fixtures.catalogs import small_catalog
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

ROOT = Path(__file__).parents[2]
CATALOG = '[models.echo]\ntask = "echo"\nbackend = "echo"\n'
FOREBAY = (sys.executable, "-m", "forebay.cli")

ENV = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}


class Up:
    """A running `forebay up`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.home = folder / "home"
        (folder / "models.toml").write_text(CATALOG)
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*FOREBAY, "up", *self.flags, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=ENV,
                start_new_session=True,
            )

    @property
    def flags(self) -> list[str]:
        """What makes it this one."""
        models = self.folder / "models.toml"
        return ["--port", str(self.port), "--home", str(self.home), "--models-file", str(models)]

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Its stderr so far."""
        return self._err.read_text()

    def wait_until_ready(self) -> None:
        """Wait for the message that says so."""
        eventually_sync(
            lambda: "ready at" in self.out or self.process.poll() is not None,
            what="ready",
        )
        assert self.process.poll() is None, self.err

    def children(self) -> dict[str, psutil.Process]:
        """Its processes, by the last words of their command lines."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                words = child.cmdline()
                if "forebay.cli" in words:
                    words = words[words.index("forebay.cli") + 1 :]
                found[" ".join(words)] = child
        return found

    def child(self, words: str) -> psutil.Process:
        """The one child whose command line has these words."""
        (child,) = (child for name, child in self.children().items() if words in name)
        return child

    def predict(self, text: str) -> str:
        """Ask it for something, as users do; empty if it could not be had."""
        url = f"http://127.0.0.1:{self.port}"
        env = {**ENV, "FOREBAY_MODELS_FILE": str(self.folder / "models.toml")}
        return forebay("predict", "echo", text, "--url", url, "--wait", "30", env=env).stdout

    def ready(self) -> bool:
        """Whether the gateway says so."""
        url = f"http://127.0.0.1:{self.port}/health/ready"
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
        return False


Start = Callable[..., Up]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Start]:
    """Starts `forebay up`, and makes sure that nothing is left of it."""
    started: list[Up] = []

    def start(*words: str) -> Up:
        folder = tmp_path / str(len(started))
        folder.mkdir(exist_ok=True)
        started.append(Up(folder, *words))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in one.children().values():
                child.kill()
        one.process.kill()
        one.process.wait(PATIENCE_S)


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def forebay(
    *words: str, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """What becomes of `forebay WORDS…`."""
    return subprocess.run(
        [*FOREBAY, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=env or ENV,
        check=False,
    )


def refused(*words: str) -> str:
    """The one line that a `forebay up` says which can't start."""
    ended = forebay("up", *words)
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_starts_everything_says_how_to_use_it_and_drains(
    up: Start, number: signal.Signals
) -> None:
    running = up()
    eventually_sync(running.ready)
    assert f"Forebay is ready at http://127.0.0.1:{running.port} after " in running.out
    assert "Models: echo" in running.out
    commands = [line for line in running.out.splitlines() if line.startswith("  ")]
    assert len(commands) == 3
    assert running.predict("hello") == '"hello"\n'

    children = running.children()
    for words in ("gateway", "worker echo", "background --beat", "guard.py", "127.0.0.1:"):
        assert sum(words in name for name in children) == 1, children

    running.process.send_signal(number)
    assert running.process.wait(PATIENCE_S) == 0
    assert all_gone(list(children.values()))
    assert "Traceback" not in running.err
    assert "ERROR" not in running.err


GRPC = "gRPC (Open Inference Protocol): 127.0.0.1:"


def test_grpc_is_on_the_next_port_where_that_is_free(up: Start) -> None:
    port = two_free_ports()
    running = up("--port", str(port))
    assert f"{GRPC}{port + 1}\n" in running.out
    with triton.InferenceServerClient(f"127.0.0.1:{port + 1}") as client:
        assert client.is_model_ready("echo")


def test_without_a_port_for_grpc_the_rest_starts_all_the_same(up: Start) -> None:
    port = two_free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        running = up("--port", str(port))
    assert GRPC not in running.out
    assert f"gRPC is not served. Port {port + 1}" in running.err
    assert "--grpc-port" in running.err


def test_grpc_can_be_on_another_port_or_none(up: Start) -> None:
    port = free_port()
    assert f"{GRPC}{port}\n" in up("--grpc-port", str(port)).out
    without = up("--grpc-port", "0")
    assert GRPC not in without.out
    assert "gRPC" not in without.err


def two_free_ports() -> int:
    """A port that is free, as is the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            port = free_port()
            with contextlib.suppress(OSError):
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
                return port


def test_the_commands_it_prints_work_as_they_are(
    up: Start, tmp_path: Path, minilm_home: Path
) -> None:
    home = tmp_path / "0" / "home"
    home.mkdir(parents=True)
    (home / "artifacts").symlink_to(minilm_home / "artifacts")
    running = up("--models-file", str(small_catalog(tmp_path)))
    assert "Models: minilm, echo" in running.out
    commands = [line.strip() for line in running.out.splitlines() if line.startswith("  ")]
    for command, shown in zip(commands, ('"embedding":[', "384 numbers]", "["), strict=True):
        if command.startswith("curl") and shutil.which("curl") is None:
            continue
        # Printed for the folder that it was started from, which is ours.
        said = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=ENV,
            check=True,
        ).stdout
        assert shown in said, command


def test_what_is_in_its_way_is_one_line_and_nothing_is_started(up: Start, tmp_path: Path) -> None:
    running = up()
    home = tmp_path / "another"
    other = ["--models-file", str(running.folder / "models.toml")]
    free = ["--home", str(home), "--port", str(free_port())]

    assert "is in use" in refused(*other, "--home", str(home), "--port", str(running.port))
    assert f"process {running.process.pid}" in refused(
        *other, "--home", str(running.home), "--port", str(free_port())
    )
    nowhere = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    line = refused(*other, *free, "--redis-url", nowhere)
    assert "can't be reached" in line
    assert "secret" not in line
    assert "no model catalog" in refused(*free, "--models-file", str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_text('[models.x]\ntask = "embedding"\nbackend = "onnx"\n')
    assert "models.x.source" in refused(*free, "--models-file", str(tmp_path / "bad.toml"))
    (tmp_path / "no.toml").write_text(
        '[models.x]\ntask = "embedding"\nbackend = "onnx"\nsource = "package:no_such/model"\n'
    )
    ended = forebay("up", *free, "--models-file", str(tmp_path / "no.toml"))
    assert ended.returncode == 1
    assert "no_such" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr

    eventually_sync(running.ready)


def test_a_killed_supervisor_leaves_nothing_behind_and_can_be_started_again_at_once(
    up: Start, tmp_path: Path
) -> None:
    running = up()
    children = list(running.children().values())
    assert len(children) >= 6
    # What it has started is still there when the next one looks.
    guard = running.child("guard.py")
    guard.suspend()
    running.process.kill()
    running.process.wait(PATIENCE_S)

    log = tmp_path / "again"
    with log.open("wb") as out:
        again = subprocess.Popen(
            [*FOREBAY, "up", *running.flags], stdout=out, stderr=subprocess.STDOUT, env=ENV
        )
    try:
        waits = f"(process {running.process.pid}) was killed; waiting"
        eventually_sync(lambda: waits in log.read_text() or again.poll() is not None, what=waits)
        guard.resume()
        eventually_sync(
            lambda: "ready at" in log.read_text() or again.poll() is not None,
            what="ready again",
        )
        assert again.poll() is None, log.read_text()
        assert all_gone(children)
        eventually_sync(running.ready)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            guard.resume()
        again.send_signal(signal.SIGINT)
        assert again.wait(PATIENCE_S) == 0


def test_a_killed_process_comes_back(up: Start) -> None:
    running = up()

    def another(words: str, before: int) -> bool:
        return any(words in name and c.pid != before for name, c in running.children().items())

    for words in ("worker echo", "gateway", "127.0.0.1:", "--beat"):
        killed = running.child(words)
        killed.kill()
        eventually_sync(functools.partial(another, words, killed.pid), what=f"another {words}")
        eventually_sync(lambda: running.predict("hello") == '"hello"\n', what="an answer")
        assert running.process.poll() is None


def test_a_redis_that_is_given_is_used(up: Start, redis_url: str, key_prefix: str) -> None:
    running = up("--redis-url", redis_url, "--key-prefix", key_prefix)
    assert not any("server" in name for name in running.children())
    assert running.predict("hello") == '"hello"\n'
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_S) == 0


def test_a_process_that_never_starts_well_ends_everything_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CATALOG)
    home = tmp_path / "home"
    data = home / "valkey" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("nonsense\n")
    flags = ["--home", str(home), "--models-file", str(tmp_path / "models.toml")]
    ended = forebay("up", *flags, "--port", str(free_port()))
    assert ended.returncode == 1
    reason = ended.stderr.splitlines()[-1]
    assert reason.startswith("forebay: server ended with exit code 1 3 times")
    assert "Its last line: " in reason
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_ctrl_c_under_make_ends_make_with_0(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CATALOG)
    port = free_port()
    command = " ".join([*FOREBAY, "up", "--port", str(port), "--home", str(tmp_path / "home")])
    (tmp_path / "Makefile").write_text(f"up:\n\t@{command}\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("make", ["make", "up"], ENV)
    said = b""
    try:
        until = time.monotonic() + PATIENCE_S
        while b"Ctrl-C drains" not in said and time.monotonic() < until:
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):
            while chunk := os.read(terminal, 4096):
                said += chunk
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()


def test_one_worker_can_serve_all_models(up: Start, tmp_path: Path) -> None:
    models = tmp_path / "two.toml"
    models.write_text(CATALOG + CATALOG.replace("models.echo", "models.second"))
    running = up("--one-worker", "--models-file", str(models))
    workers = [words for words in running.children() if words.startswith("worker")]
    assert workers == ["worker echo second"]
    assert running.predict("a") == '"a"\n'
    told = forebay("workers", "list", "--home", str(running.home)).stdout
    assert told.count("ready") == 2
    assert "second" in told


def test_a_worker_that_is_too_small_for_a_model_says_so_at_the_start(
    up: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = catalog(tmp_path, ["small", "huge"])
    monkeypatch.setitem(ENV, "FOREBAY_WORKER_MEMORY_MB", "300")
    size = 900_000_000
    Footprints(tmp_path / "0" / "home").write(
        Footprint("huge", "ballast.py:Ballast", "", size, load_bytes=size, load_s=1.0)
    )
    running = up("--one-worker", "--models-file", str(models))
    assert "Not served: huge doesn't fit: with it alone this worker takes about" in running.out
    assert "it may take 300 MB (worker_memory_mb)" in running.out


def test_a_worker_that_is_too_small_for_every_model_ends_the_start(
    up: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = catalog(tmp_path, ["a", "b"])
    monkeypatch.setitem(ENV, "FOREBAY_WORKER_MEMORY_MB", "20")
    home, port = str(tmp_path / "home"), str(free_port())
    words = ("--home", home, "--models-file", str(models), "--port", port)
    done = forebay("up", "--one-worker", *words)
    assert done.returncode == 1
    assert "Forebay is ready" not in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "This worker may take 20 MB, and no model of it fits" in last
    assert "Raise --memory-mb (FOREBAY_WORKER_MEMORY_MB)" in last


def test_verbs_find_the_server_that_runs_in_their_home(up: Start) -> None:
    running = up()
    env = {**ENV, "FOREBAY_HOME": str(running.home)}
    listed = forebay("dead", "list", env=env)
    assert listed.returncode == 0, listed.stderr
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_S) == 0
    gone = forebay("dead", "list", env=env)
    assert gone.returncode == 1
    assert "No Redis is given" in gone.stderr


def test_doctor_does_not_take_a_running_forebay_for_a_stranger_on_its_port(up: Start) -> None:
    running = up()
    models = str(running.folder / "models.toml")
    env = {**ENV, "FOREBAY_PORT": str(running.port), "FOREBAY_MODELS_FILE": models}
    told = forebay("doctor", env=env)
    assert "in use" not in told.stdout + told.stderr
    assert "a gateway that is ready" in " ".join(told.stdout.split())
    assert told.returncode == 0, told.stdout


def test_a_build_that_is_interrupted_says_so_and_that_it_goes_on(tmp_path: Path) -> None:
    models, log = tmp_path / "models.toml", tmp_path / "log"
    source = f"hf:somebody/words@{'0' * 40}"
    models.write_text(
        f'[models.words]\ntask = "embedding"\nbackend = "onnx"\nsource = "{source}"\n'
    )
    words = ("--models-file", str(models), "--home", str(tmp_path / "home"))
    with socket.create_server(("127.0.0.1", 0)) as hub, log.open("wb") as out:
        hub.settimeout(PATIENCE_S)
        # No proxy comes between, and nothing that was fetched before is used.
        here = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}", "NO_PROXY": "127.0.0.1"}
        up = subprocess.Popen(
            [*FOREBAY, "up", "--port", str(free_port()), *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**ENV, **here, "HF_HOME": str(tmp_path / "hf")},
            start_new_session=True,
        )
        try:
            asking, _ = hub.accept()  # the build waits for an answer
            with asking:
                up.send_signal(signal.SIGINT)
                assert up.wait(PATIENCE_S) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(up.pid, signal.SIGKILL)
    said = log.read_text()
    assert "the build of words was stopped, and nothing was started" in said
    assert "the next `forebay up` goes on" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="connections are shared out on Linux only")
def test_several_gateways_share_the_ports_and_one_that_is_killed_leaves_the_others(
    up: Start,
) -> None:
    one = up("--gateways", "3")
    children = psutil.Process(one.process.pid).children()
    pids = {child.pid for child in children if child.cmdline()[-1] == "gateway"}
    assert len(pids) == 3
    url = f"http://127.0.0.1:{one.port}"

    def answering() -> int:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/health/ready") as answer,
        ):
            return int(json.load(answer)["pid"])
        return 0

    eventually_sync(lambda: {answering() for _ in range(24)} == pids, what="all answer")
    told = " ".join(refused("--port", str(one.port), "--home", str(one.folder / "other")).split())
    assert f"Port {one.port} on 127.0.0.1 is in use." in told

    with httpx.Client(transport=httpx.HTTPTransport(retries=3), base_url=url) as client:
        sent, killed = 0, answering()
        while sent < 300:
            if sent == 100:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed, signal.SIGKILL)
            try:
                reply = client.post(
                    "/v1/predictions",
                    json={"version": "echo", "input": {"value": sent}},
                    headers={"Prefer": "wait", "Idempotency-Key": f"k{sent}"},
                )
            except httpx.TransportError:
                continue  # it was the one that is gone: asked again, by another connection
            assert reply.json()["output"] == sent
            sent += 1
        # Those that live tell what the other has counted, too.
        told = client.get("/metrics").text
    labels = 'forebay_dialect="replicate",http_response_status_code="201"'
    made = f"http_server_request_duration_seconds_count{{{labels}}}"
    (count,) = [line.split()[1] for line in told.splitlines() if line.startswith(made)]
    assert float(count) >= 300
    counts = Path(psutil.Process(min(pids - {killed})).environ()["FOREBAY_COUNTS_DIR"])
    assert len(list(counts.iterdir())) <= 4
    eventually_sync(
        lambda: len({answering() for _ in range(24)} - pids - {0}) == 1,
        what="its successor answers",
    )
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(PATIENCE_S) == 0, one.err
    assert not counts.exists()
