"""Reading `triggers.toml`, checking it, and what editors are told of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from forebay.background.triggers.brokers import connection_of, events_of, others_of
from forebay.background.triggers.schema import triggers_schema_text
from forebay.background.triggers.table import Mode, ResultTable, Trigger, read
from forebay.contract.errors import ConfigurationError
from forebay.contract.prediction import Lane
from forebay.runtime.process import EXIT_HOPELESS
from tests.fixtures.gateway import MODELS
from tests.unit.test_cli import invoke, run

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "triggers.schema.json"
EXAMPLE = ROOT / "docs" / "examples" / "triggers.toml"

ONE = """
[triggers.one]
broker = "memory://"
queue = "asked"
model = "echo"
"""
RESULT = '[triggers.one.result]\nqueue = "told"\n'
WHOLE = ONE + RESULT


def read_text(folder: Path, text: str, **environ: str) -> list[Trigger]:
    path = folder / "triggers.toml"
    path.write_text(text.lstrip(), "utf-8")
    return read(path, MODELS, environ=environ)


def test_a_trigger_says_little_and_the_rest_follows(tmp_path: Path) -> None:
    (one,) = read_text(tmp_path, WHOLE)
    assert (one.name, one.lane, one.retries, one.input) == ("one", Lane.BULK, 0, None)
    assert (one.dead_letters, one.source) == ("asked.dead", "/forebay/triggers/one")
    assert (one.result.key, one.result.mode) == ("told", Mode.STRUCTURED)
    queue: Any = events_of(one)
    assert (queue.name, queue.no_declare, bool(queue.exchange.name)) == ("asked", False, False)
    assert [entity.name for entity in others_of(one)] == ["asked.dead", "told"]


def test_a_broker_is_taken_from_the_environment(tmp_path: Path) -> None:
    text = WHOLE.replace("memory://", "$THE_BROKER")
    (one,) = read_text(tmp_path, text, THE_BROKER="amqp://me:secret@host//")
    assert one.broker == "amqp://me:secret@host//"
    with pytest.raises(ConfigurationError, match="no variable THE_BROKER"):
        read_text(tmp_path, text)


def test_a_triggers_options_go_before_ours() -> None:
    def options(**own: object) -> dict[str, object]:
        trigger = Trigger("redis://h", "q", "echo", ResultTable("r"), options=dict(own))
        return dict(connection_of(trigger).transport_options or {})

    assert options()["visibility_timeout"] == 300
    assert options(visibility_timeout=9, fanout_prefix=True) == options() | {
        "visibility_timeout": 9,
        "fanout_prefix": True,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[triggers", " is not valid TOML: Expected ']'"),
        ("", " names no trigger: add a [triggers.NAME] table."),
        ("triggers = 3\n", ", line 1: triggers: expected a table, got `int`."),
        ("a = " + "[" * 5_000, " nests too deeply."),
        (WHOLE + "[other]\n", "line 7: other: there is no such field; there are triggers."),
        ("[triggers.One]\n", "line 1: triggers.One: a trigger's name is 1 to 63 of a-z"),
        (ONE, ", line 1: triggers.one.result: missing."),
        (WHOLE + 'color = "red"\n', "line 7: triggers.one.result.color: there is no such field"),
        (ONE + 'name = "x"\n' + RESULT, ", line 5: triggers.one.name: there is no such field"),
        (ONE + "prefetch = 0\n" + RESULT, "line 5: triggers.one.prefetch: expected `int` >= 1."),
        (ONE + 'lane = "fast"\n' + RESULT, "lane: invalid enum value 'fast'; there are realtime"),
        (WHOLE.replace("echo", "gpt"), "one.model: there is no model 'gpt' here. Models: echo"),
        (WHOLE.replace("told", "asked"), "result.queue: results in the queue of events would be"),
        (WHOLE.replace('queue = "told"', ""), "one.result: say a queue or an exchange to publish"),
        (ONE + 'dead_letter = "told"\n' + RESULT, "dead_letter: dead letters need a queue of"),
        (WHOLE.replace("memory://", "mem"), "line 2: triggers.one.broker: a URL is needed"),
        (WHOLE.replace("memory://", "mem://"), "broker: kombu knows no transport 'mem'."),
        (WHOLE.replace("memory://", "amqp://me:secret@h:x"), "broker: this is no URL."),
        (ONE + 'input = { text = "$text.a" }\n' + RESULT, "input.text: '$text.a' stands for"),
        (ONE + "input = { at = 2024-01-01 }\n" + RESULT, "input.at: a date is nothing JSON has"),
    ],
)
def test_an_error_names_the_line_the_field_and_what_is_wrong(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_text(tmp_path, text)
    assert str(tmp_path / "triggers.toml") in caught.value.message
    assert told in caught.value.message
    assert "secret" not in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no file of triggers at .*gone\.toml"):
        read(tmp_path / "gone.toml", MODELS)


def test_a_background_does_not_start_with_a_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triggers.toml").write_text(ONE)
    (tmp_path / "models.toml").write_text('[models.echo]\ntask = "echo"\nbackend = "echo"\n')
    monkeypatch.chdir(tmp_path)
    words = ("background", "--triggers-file", "triggers.toml", "--redis-url", "redis://127.0.0.1:1")
    done = run(*words)
    assert done.returncode == EXIT_HOPELESS
    assert done.stderr.splitlines()[-1].endswith(": triggers.one.result: missing.")


def test_the_published_schema_is_that_of_the_code_and_the_example_names_it() -> None:
    assert PUBLISHED.read_text("utf-8") == triggers_schema_text(), (
        "run `forebay triggers schema > docs/triggers.schema.json`"
    )
    assert invoke("triggers", "schema").output == triggers_schema_text()
    first = EXAMPLE.read_text("utf-8").splitlines()[0]
    assert (EXAMPLE.parent / first.removeprefix("#:schema ")).resolve() == PUBLISHED


@pytest.mark.parametrize("struct", ["Trigger", "ResultTable"])
def test_every_field_says_what_it_is_for(struct: str) -> None:
    part = json.loads(triggers_schema_text())["$defs"][struct]
    assert part["additionalProperties"] is False
    assert "name" not in part["properties"]
    for name, field in part["properties"].items():
        assert field.get("description"), name
        assert "null" not in str(field), name


def test_the_example_is_checked_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCUMENTS_BROKER", "amqp://")
    told = invoke("triggers", "check", "--triggers-file", "docs/examples/triggers.toml")
    assert told.exit_code == 0, told.output
    assert "documents document.embedded" in told.output
    nothing = invoke("triggers", "check")
    assert isinstance(nothing.exception, Exception)
    assert "Name the file" in str(nothing.exception)
