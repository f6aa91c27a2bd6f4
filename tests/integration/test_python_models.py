"""A user's own class, whole: gateway, server, worker, and what becomes of one that goes wrong."""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from replicate.client import Client

from forebay.runtime.process import EXIT_HOPELESS
from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

EXAMPLES = ROOT / "docs" / "examples"

OWN = """
import os, sys
from typing import TypedDict

class Row(TypedDict):
    do: str

class Odd:
    def predict(self, rows: list[Row]):
        outputs = []
        for row in rows:
            print("asked to", row["do"])
            if row["do"] == "raise":
                raise ValueError("a secret of the model's")
            if row["do"] == "die":
                os._exit(3)
            if row["do"] == "exit":
                sys.exit(0)
            outputs.append(row["do"].upper())
        return outputs[:-1] if rows[0]["do"] == "forget" else outputs
"""

FILES = """
import pathlib, tempfile
import msgspec

class Row(msgspec.Struct):
    document: pathlib.Path
    besides: list[pathlib.Path] = []

class Loud:
    samples = [Row(pathlib.Path(__file__))]

    def predict(self, rows: list[Row]) -> list[dict[str, pathlib.Path | int]]:
        outputs = []
        for row in rows:
            loud = pathlib.Path(tempfile.mkdtemp()) / f"{row.document.stem}-loud.txt"
            loud.write_text(row.document.read_text().upper())
            outputs.append({"loud": loud, "besides": len(row.besides)})
        return outputs
"""

CATALOG = """
[models.language]
task = "python"
backend = "python"
source = "{examples}/language.py:Language"

[models.odd]
task = "python"
backend = "python"
source = "odd.py:Odd"

[models.loud]
task = "python"
backend = "python"
source = "loud.py:Loud"
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack with the example, and with a class that does what it is told."""
    with tempfile.TemporaryDirectory(prefix="forebay-python-") as name:
        folder = Path(name)
        (folder / "odd.py").write_text(OWN)
        (folder / "loud.py").write_text(FILES)
        catalog = folder / "models.toml"
        catalog.write_text(CATALOG.format(examples=EXAMPLES))
        with running_stack(folder, folder, models_file=str(catalog)) as running:
            yield running


def create(stack: Stack, model: str, input_: object, *, wait: bool = True) -> httpx.Response:
    return httpx.post(
        f"{stack.url}/v1/predictions",
        json={"version": model, "input": input_},
        headers={"Prefer": "wait"} if wait else {},
        timeout=PATIENCE_S,
    )


def predict(stack: Stack, model: str, input_: object) -> dict[str, Any]:
    answer = create(stack, model, input_)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def forebay(*words: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *words],
        cwd=ROOT,
        env={**os.environ, "FOREBAY_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_example_answers_one_object_or_a_list_of_them(own: Stack) -> None:
    one = predict(own, "language", {"text": "Le lac est plein d'eau."})
    assert (one["status"], one["output"][0]["language"]) == ("succeeded", "fr")
    texts = ["Where does the water go?", "Wohin fließt das Wasser?", "¿Adónde va el agua?"]
    several = predict(own, "language", [{"text": text, "best": 2} for text in texts])
    assert [output[0]["language"] for output in several["output"]] == ["en", "de", "es"]
    assert {len(output) for output in several["output"]} == {2}

    shown = httpx.get(several["urls"]["get"], timeout=PATIENCE_S).json()
    assert shown["output"] == several["output"]
    assert shown["input"] == [{"text": text, "best": 2} for text in texts]


def test_a_row_that_is_not_as_annotated_is_refused_by_its_field(own: Stack) -> None:
    rows = [{"text": "fine"}, {"text": "fine", "best": 9}]
    told = predict(own, "language", rows)
    assert (told["status"], told["error"]) == ("failed", "Row 1: input.best: expected `int` <= 4.")
    assert predict(own, "language", rows[0])["status"] == "succeeded"
    assert create(own, "language", "text").status_code == 422


def test_its_version_is_listed_told_and_may_be_pinned(own: Stack) -> None:
    told = predict(own, "language", {"text": "a"})
    assert len(told["version"]) == 12
    assert predict(own, f"language:{told['version']}", {"text": "a"})["version"] == told["version"]
    assert create(own, "language:ffffffffffff", {"text": "a"}).status_code == 404
    with openai.OpenAI(base_url=f"{own.url}/v1", api_key="unused") as client:
        assert [model.id for model in client.models.list().data] == ["language", "loud", "odd"]
        with pytest.raises(openai.BadRequestError, match="language"):
            client.embeddings.create(model="language", input="a")
    catalog = own.home.parent / "models.toml"
    listed = forebay("models", "list", home=own.home, FOREBAY_MODELS_FILE=str(catalog))
    assert told["version"] in listed.stdout


@pytest.mark.parametrize(
    ("input_", "shown"),
    [("Das Wasser fließt.", '"de"'), ('[{"text": "the lake"}, {"text": "el lago"}]', '"es"')],
)
def test_it_can_be_asked_from_the_command_line(own: Stack, input_: str, shown: str) -> None:
    done = forebay(
        *("predict", "language", input_, "--url", own.url),
        home=own.home,
        FOREBAY_MODELS_FILE=str(own.home.parent / "models.toml"),
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize("deed", ["raise", "exit", "forget"])
def test_what_fails_fails_alone_and_tells_clients_nothing_of_the_code(
    own: Stack, deed: str
) -> None:
    worker = own.child("worker", "odd")
    told = predict(own, "odd", {"do": deed})
    assert told["status"] == "failed"
    assert "The worker's log says why" in told["error"]
    assert "secret" not in told["error"]
    assert predict(own, "odd", {"do": "sing"})["output"] == "SING"
    assert own.child("worker", "odd") == worker
    said = {"raise": "a secret of the model's", "exit": "ended the program", "forget": "gave 0 out"}
    for words in (said[deed], f"asked to {deed}"):
        # Whoever started the worker passes on what it says.
        eventually_sync(lambda words=words: words in own.output, what=words)  # type: ignore[misc]


@pytest.mark.slow
def test_what_ends_its_worker_is_given_up_after_four_strikes(own: Stack) -> None:
    told = create(own, "odd", {"do": "die"}, wait=False).json()
    eventually_sync(
        lambda: httpx.get(told["urls"]["get"], timeout=PATIENCE_S).json()["status"] == "failed",
        what="the row at fault is put aside",
    )
    assert predict(own, "odd", {"do": "sing"})["output"] == "SING"


BROKEN = {
    "no file": ("gone.py:Odd", "gone.py, which is not there"),
    "no class": ("odd.py:Other", "the class 'Other'"),
    "raises": ("raises.py:Odd", "raises.py, line 3: OSError: no weights"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_worker_whose_class_can_not_be_loaded_says_so_and_that_no_other_start_would_help(
    tmp_path: Path, name: str
) -> None:
    source, said = BROKEN[name]
    (tmp_path / "odd.py").write_text(OWN)
    (tmp_path / "raises.py").write_text(
        "class Odd:\n    def load(self):\n        raise OSError('no weights')\n"
    )
    catalog = tmp_path / "models.toml"
    catalog.write_text(f'[models.odd]\ntask = "python"\nbackend = "python"\nsource = "{source}"\n')
    words = ("--models-file", str(catalog))
    done = forebay("worker", "odd", *words, "--redis-url", "redis://127.0.0.1:1", home=tmp_path)
    assert done.returncode == EXIT_HOPELESS, done.stderr
    assert said in done.stderr.splitlines()[-1]
    checked = forebay("models", "check", "odd", *words, home=tmp_path)
    assert (checked.returncode, checked.stdout) == (1, "")
    assert said in checked.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("task", "deed", "said"),
    [
        ("python", "print('words'); os._exit(3)", "ended the process with exit code 3."),
        ("python", "os._exit(0)", "ended the process with exit code 0."),
        ("python", "raise KeyboardInterrupt", "ended the process by SIGINT."),
        ("python", "ctypes.string_at(0)", "ended the process by SIGSEGV."),
        ("pipeline", "os._exit(3)", "ended the process with exit code 3."),
    ],
)
def test_the_check_of_a_class_that_ends_its_process_says_so_and_names_the_file(
    tmp_path: Path, task: str, deed: str, said: str
) -> None:
    (tmp_path / "ends.py").write_text(
        f"import ctypes, os\nclass Ends:\n    def load(self):\n        {deed}\n"
    )
    catalog = tmp_path / "models.toml"
    catalog.write_text(
        f'[models.ends]\ntask = "{task}"\nbackend = "{task}"\nsource = "ends.py:Ends"\n'
        + 'steps = ["echo"]\n[models.echo]\ntask = "echo"\nbackend = "echo"\n'
        * (task == "pipeline")
    )
    done = forebay("models", "check", "ends", "--models-file", str(catalog), home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert str(tmp_path / "ends.py") in done.stderr
    assert "have it raise" in done.stderr.lower()


@pytest.mark.parametrize(
    ("source", "code", "own"),
    [
        ("nobody_has_this:Odd", "", False),
        ("odd.py:Odd", "from odd_helper import X\n", True),
        ("odd.py:Odd", "class Odd\n", False),
    ],
)
def test_a_class_that_can_not_be_loaded_shows_its_own_frames_and_none_of_ours(
    tmp_path: Path, source: str, code: str, own: bool
) -> None:
    (tmp_path / "odd.py").write_text(code)
    (tmp_path / "odd_helper.py").write_text("1 / 0\n")
    catalog = tmp_path / "models.toml"
    catalog.write_text(f'[models.odd]\ntask = "python"\nbackend = "python"\nsource = "{source}"\n')
    done = forebay("models", "check", "odd", "--models-file", str(catalog), home=tmp_path)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is own
    assert ("odd_helper.py" in done.stderr) is own
    assert "user_class.py" not in done.stderr
    assert "importlib" not in done.stderr


def test_a_model_can_be_checked_and_says_what_it_takes(tmp_path: Path) -> None:
    words = ("--models-file", str(EXAMPLES / "models.toml"))
    done = forebay("models", "check", "language", *words, home=tmp_path)
    assert done.returncode == 0, done.stderr
    first, costs, schema = done.stdout.split("\n", 2)
    assert first.startswith("language ")
    assert costs.startswith("A worker of it is ready in ")
    told = json.loads(schema)
    assert told["input"]["$defs"]["Text"]["properties"]["best"]["maximum"] == 4
    assert told["output"]["type"] == "array"
    assert not (tmp_path / "described").exists()


def test_files_go_in_and_come_out(own: Stack) -> None:
    client = Client(api_token="r8_none", base_url=f"{own.url}/replicate")
    note = io.BytesIO("größer".encode())
    note.name = "note.txt"
    predicted = client.predictions.create(
        version="loud", input={"document": note, "besides": ["data:text/plain;base64,YQ=="]}
    )
    predicted.wait()
    assert predicted.status == "succeeded", predicted.error
    assert isinstance(predicted.output, dict)
    assert predicted.output["besides"] == 1
    url = predicted.output["loud"]
    assert url.startswith(f"{own.url}/v1/files/file-")
    loud = httpx.get(url, timeout=PATIENCE_S)
    assert loud.text == "GRÖSSER"
    assert loud.headers["content-type"] == "text/plain"
    assert 'filename="note-loud.txt"' in loud.headers["content-disposition"]
    again = predict(own, "loud", {"document": url})
    assert again["input"] == {"document": url}
    assert httpx.get(again["output"]["loud"], timeout=PATIENCE_S).text == "GRÖSSER"
    client._client.close()


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("file-" + "0" * 32, "There is no file"),
        ("data:text/plain,a", "must be base64"),
        ("data:text/plain;base64,=", "is not base64"),
        ("note.txt", "this gives no file"),
        (7, "this gives no file"),
    ],
)
def test_what_is_no_file_is_told_of_by_its_field(own: Stack, document: object, told: str) -> None:
    refused = predict(own, "loud", {"document": "data:;base64,YQ==", "besides": [document]})
    assert refused["status"] == "failed"
    assert told.lower() in refused["error"].lower()
    assert "input.besides[0]" in refused["error"]


def test_a_file_is_fetched_from_its_address(own: Stack) -> None:
    url = f"{own.url}/health/live"
    row = {"document": url, "besides": ["data:;base64,YQ==", url]}
    told = predict(own, "loud", [row, row])
    assert told["input"] == [row, row]
    for output in told["output"]:
        assert output["besides"] == 2
        loud = httpx.get(output["loud"], timeout=PATIENCE_S).text
        assert loud == httpx.get(url, timeout=PATIENCE_S).text.upper()


def test_an_address_that_may_not_be_called_is_refused_by_its_field(own: Stack) -> None:
    row = {"document": "http://169.254.169.254/latest/meta-data"}
    answer = create(own, "loud", [{"document": "data:;base64,YQ=="}, row])
    assert answer.status_code == 422, answer.text
    assert answer.json()["param"] == "input[1].document"
    assert "not a public address" in answer.json()["detail"]
