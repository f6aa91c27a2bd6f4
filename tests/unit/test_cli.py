"""The command line: its verbs, its errors, its tables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from forebay.cli import flags
from forebay.cli.main import SERVICES, app, main
from forebay.cli.show import print_configuration, print_prediction, shorten
from forebay.contract.errors import ConfigurationError, ForebayError
from forebay.runtime.process import EXIT_HOPELESS
from forebay.runtime.settings import load
from tests.fixtures.waiting import PATIENCE_S

ECHO = '[models.echo]\ntask = "echo"\nbackend = "echo"\ndescription = "says it again"\n'


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FOREBAY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.toml").write_text(ECHO)


def invoke(*words: str) -> Result:
    """Run a verb in this process."""
    return CliRunner().invoke(app, words)


def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb as users do."""
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **variables},
    )


def test_every_verb_has_help() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    verbs = (
        *("up", "gateway", "worker", "background"),
        *("predict", "config", "doctor", "models", "dead"),
    )
    for verb in verbs[:4]:
        # Options that are settings are explained as the settings are.
        assert "The model catalog" in invoke(verb, "--help").output
    for verb in verbs:
        assert verb in result.output
        assert invoke(verb, "--help").exit_code == 0


def test_the_version_is_told() -> None:
    assert invoke("--version").output.startswith("forebay 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("worker", "echo"), "No Redis is given"),
        (("gateway", "--redis-url", "redis://127.0.0.1:1", "--port", "0"), "--port sets port to 0"),
        (("worker", "nope", "--redis-url", "redis://127.0.0.1:1"), "no model 'nope'"),
        (("models", "list", "--models-file", "gone.toml"), "no model catalog at gone.toml"),
        (("models", "build"), "Name one model"),
        (("models", "build", "echo", "--all"), "Name one model"),
        (("models", "build", "echo", "--missing"), "--missing goes with --all"),
        (("models", "build", "nope"), "no model 'nope'"),
        (("models", "build", ""), "no model ''"),
        (("predict", "echo", "{broken"), "not JSON"),
        (("predict", "echo", "x", "--url", "http://127.0.0.1:1"), "No gateway answers"),
        (("predict", "echo", "x", "--url", "http://[::1"), "can't be a gateway's URL"),
        (("predict", "echo", "x", "--url", ""), "can't be a gateway's URL"),
        (("predict", "echo", "x", "--wait", "inf"), "--wait takes a number"),
        (("predict", "echo", "x", "--wait", "nan"), "--wait takes a number"),
        (("predict", "echo", '{"a":' + "[" * 2_000), "nests too deeply"),
        (("gateway", "--redis-url", "redis://[::1"), "can't be understood"),
        (("background", "--redis-url", "redis://h/0?colour=red"), "can't be understood"),
        (("up", "--models-file", "gone.toml"), "no model catalog"),
        (("up", "--durability", "sometimes"), "durability"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr(words: tuple[str, ...], said: str) -> None:
    ended = run(*words)
    assert ended.returncode == (EXIT_HOPELESS if words[0] in SERVICES else 1)
    assert ended.stdout == ""
    assert said in ended.stderr
    assert ended.stderr.startswith("forebay: ")
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("forebay.cli.main.app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forebay.toml").write_text('port = 1\nhost = "::1"\nkey_prefix = "file"\n')
    monkeypatch.setenv("FOREBAY_PORT", "2")
    monkeypatch.setenv("FOREBAY_HOST", "127.0.0.2")
    settings = flags.configure(port=3, host=None).settings
    assert (settings.port, settings.host, settings.key_prefix) == (3, "127.0.0.2", "file")


def test_a_service_without_redis_is_told_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_REDIS_URL"):
        flags.configure_service()


def test_the_configuration_says_where_values_come_from_and_hides_passwords(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_configuration(load(environ={"FOREBAY_REDIS_URL": "redis://me:secret@host:1/0"}))
    lines = capsys.readouterr().out.splitlines()
    redis = next(line for line in lines if line.startswith("redis_url"))
    assert "redis://me:***@host:1/0" in redis
    assert "FOREBAY_REDIS_URL" in redis
    port = next(line for line in lines if line.startswith("port"))
    assert port.split()[1:3] == ["8000", "default"]
    assert "secret" not in "".join(lines)


def test_models_are_listed_with_what_is_built() -> None:
    result = invoke("models", "list")
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if line.startswith("echo"))
    assert "needs nothing" in row
    assert "says it again" in row


def test_a_model_without_an_artifact_needs_no_build() -> None:
    assert "nothing to build" in invoke("models", "build", "echo").output


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([0.123456789, 1, 2, 3, 4, 5], "[0.123457, 1, 2, 3, … 6 numbers]"),
        ([1, 2], "[1, 2]"),
        ([10**400, 1, 2, 3, 4], "[1.00000e+400, 1, 2, 3, … 5 numbers]"),
        ([True, False, True, True, True], "[true, false, true, true, true]"),
        ([1, 2, 3, 4, True], "[1, 2, 3, 4, true]"),
        ([[0.5] * 9, [0.5] * 9], "[[0.5, 0.5, 0.5, 0.5, … 9 numbers], "
         "[0.5, 0.5, 0.5, 0.5, … 9 numbers]]"),
        ({"a": "é", "b": None}, '{"a": "é", "b": null}'),
        ("text", '"text"'),
    ],
)  # fmt: skip
def test_long_vectors_are_shortened(value: Any, shown: str) -> None:
    assert shorten(value) == shown


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("raw", [True, False])
def test_an_answer_that_nests_too_deeply_to_be_shown_is_an_error(raw: bool) -> None:
    prediction = {"id": "x", "status": "succeeded", "output": nested(5_000)}
    with pytest.raises(ForebayError, match="nests too deeply"):
        print_prediction(prediction, raw=raw)


def test_a_terminal_without_the_letters_for_it_is_no_traceback() -> None:
    ended = run("config", PYTHONIOENCODING="ascii", FOREBAY_HOME="h\udcff\xe9")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "h\\udcff\\xe9" in ended.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"home = '\xff'", "invalid start byte"), (b"home = " + b"[" * 5_000, "nests too deeply")],
)
def test_a_settings_file_that_can_not_be_read_is_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "forebay.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        flags.configure()


def test_a_variable_that_is_no_text_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_PORT", "\udcff")
    with pytest.raises(ConfigurationError, match="surrogates not allowed"):
        flags.configure()


def test_a_whole_prediction_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    prediction = {"id": "x", "status": "succeeded", "output": list(range(99))}
    print_prediction(prediction, raw=True)
    assert json.loads(capsys.readouterr().out) == prediction


@pytest.mark.parametrize(
    ("status", "said"),
    [("failed", "The prediction failed: too long"), ("starting", "not done yet.*--wait")],
)
def test_a_prediction_without_an_output_is_an_error(status: str, said: str) -> None:
    with pytest.raises(ForebayError, match=said):
        print_prediction({"id": "x", "status": status, "error": "too long"}, raw=False)


HEAVY = {"torch", "transformers", "onnxruntime", "celery", "kombu", "starlette", "uvicorn", "redis"}


def test_the_supervisor_imports_nothing_that_it_does_not_run() -> None:
    code = "import sys, forebay.cli.main, forebay.cli.up; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
