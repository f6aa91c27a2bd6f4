"""A user's own class as a model: what it may be, and what is said of one that can't be run."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.contract.errors import ArtifactError, BackendFailed, ConfigurationError, InvalidInput
from forebay.contract.files import FileRecord, Purpose, Terms
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Value, ValueRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.python import PythonModel
from forebay.storage.descriptions import Description, Descriptions
from forebay.storage.file_records import Files
from tests.fixtures.user_models import WORDS, user_model

ANY = "from typing import Any\n"


@pytest.fixture(autouse=True)
def an_import_path_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def opened(folder: Path, code: str = WORDS, **where: str) -> PythonModel:
    return PythonModel(user_model(folder, code, **where))


def predicting(body: str, *, head: str = "", row: str = "dict[str, Any]") -> str:
    """A class whose `predict` is this."""
    return f"{ANY}{head}class Words:\n    def predict(self, rows: list[{row}]):\n        {body}\n"


def ready(model: PythonModel, *rows: object) -> list[PreparedRow]:
    given = [ValueRow(json.dumps(row).encode()) for row in rows]
    prepared = model.prepare(given, truncate=False)
    assert all(isinstance(row, PreparedRow) for row in prepared), prepared
    return [row for row in prepared if isinstance(row, PreparedRow)]


def answers(model: PythonModel, *rows: object) -> list[Any]:
    outputs = model.run(ready(model, *rows))
    return [json.loads(output.json) for output in outputs if isinstance(output, Value)]


def refused(model: PythonModel, row: object) -> InvalidInput:
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    (error,) = model.prepare([ValueRow(raw)], truncate=False)
    assert isinstance(error, InvalidInput), error
    return error


class TestWhatItMayBe:
    def test_rows_are_objects_of_the_annotated_type_with_its_defaults(self, tmp_path: Path) -> None:
        model = opened(tmp_path)
        model.warm()
        assert answers(model, {"text": "a"}, {"text": "b", "times": 2}) == ["A", "BB"]

    @pytest.mark.parametrize(
        "row",
        [
            "from dataclasses import dataclass\n@dataclass\nclass Row:",
            "import msgspec\nclass Row(msgspec.Struct, rename='camel'):",
        ],
    )
    def test_a_row_may_be_a_dataclass_or_a_struct(self, tmp_path: Path, row: str) -> None:
        head = f"{row}\n    x: int\n    y: int = 2\n"
        code = predicting("return [r.x + r.y for r in rows]", head=head, row="Row")
        model = opened(tmp_path, code)
        assert answers(model, {"x": 1}, {"x": 1, "y": 5}) == [3, 6]
        assert refused(model, {"x": 1, "z": 1}).message == "Unknown parameter: 'input.z'."

    def test_a_row_may_be_a_typed_dict_or_any_object(self, tmp_path: Path) -> None:
        head = (
            "from typing import TypedDict, NotRequired\n"
            "class Row(TypedDict):\n    x: int\n    y: NotRequired[int]\n"
        )
        typed = opened(tmp_path, predicting("return [len(r) for r in rows]", head=head, row="Row"))
        assert answers(typed, {"x": 1}) == [1]
        assert refused(typed, {"x": "1"}).message == "input.x: expected `int`, got `str`."
        assert refused(typed, {"x": 1, "z": 1}).param == "input.z"
        anything = opened(tmp_path, predicting("return rows"), file="anything.py")
        assert answers(anything, {"x": [1]}, {}) == [{"x": [1]}, {}]
        assert "expected `object`" in refused(anything, 3).message

    def test_rows_of_several_kinds_are_told_apart_by_their_tag(self, tmp_path: Path) -> None:
        head = (
            "import msgspec\nclass A(msgspec.Struct, tag=True):\n    x: int\n"
            "class B(msgspec.Struct, tag=True):\n    y: int\n"
        )
        code = predicting("return [type(r).__name__ for r in rows]", head=head, row="A | B")
        model = opened(tmp_path, code)
        assert answers(model, {"type": "B", "y": 1}, {"type": "A", "x": 1}) == ["B", "A"]

    def test_annotations_may_be_texts(self, tmp_path: Path) -> None:
        code = f"from __future__ import annotations\n{WORDS}"
        assert answers(opened(tmp_path, code), {"text": "a"}) == ["A"]

    def test_it_may_be_in_a_module_beside_the_catalog(self, tmp_path: Path) -> None:
        user_model(tmp_path, WORDS, file="parcel/words.py")
        user_model(tmp_path, "", file="parcel/__init__.py")
        spec = ModelSpec(**{**spec_of(tmp_path), "source": "parcel.words:Words"})
        assert answers(PythonModel(spec), {"text": "a"}) == ["A"]

    def test_it_may_import_what_lies_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "loudness_beside.py").write_text("def loud(text): return text + '!'\n")
        body = "from loudness_beside import loud\n        return [loud(r['x']) for r in rows]"
        assert answers(opened(tmp_path, predicting(body)), {"x": "a"}) == ["a!"]

    def test_a_file_may_be_named_like_a_module_of_python(self, tmp_path: Path) -> None:
        assert answers(opened(tmp_path, file="json.py"), {"text": "a"}) == ["A"]
        assert sys.modules["json"] is json

    def test_arrays_numbers_structs_and_generators_come_out_as_json(self, tmp_path: Path) -> None:
        head = "import numpy as np, dataclasses\n@dataclasses.dataclass\nclass D:\n    x: object\n"
        body = (
            "made = [np.arange(2), np.float32(0.5), D(np.int64(3)), {'a': (1,)}]\n"
            "        return (one for one in made)"
        )
        got = answers(opened(tmp_path, predicting(body, head=head)), {}, {}, {}, {})
        assert got == [[0, 1], 0.5, {"x": 3}, {"a": [1]}]

    def test_no_more_rows_than_it_takes_are_given_at_once(self, tmp_path: Path) -> None:
        code = predicting("return [len(rows)] * len(rows)") + "    max_rows = 2\n"
        assert answers(opened(tmp_path, code), *[{}] * 5) == [2, 2, 2, 2, 1]

    def test_a_run_sees_nothing_of_what_the_last_one_did_to_its_rows(self, tmp_path: Path) -> None:
        model = opened(tmp_path, predicting("return [r.setdefault('n', len(r)) for r in rows]"))
        rows = ready(model, {"x": 1})
        assert model.run(rows) == model.run(rows) == [Value(b"1")]


class TestRowsThatAreRefused:
    @pytest.mark.parametrize(
        ("row", "said", "param"),
        [
            ({}, "Missing parameter: 'input.text'.", "input.text"),
            ({"text": 1}, "input.text: expected `str`, got `int`.", "input.text"),
            ({"text": ""}, "input.text: expected `str` of length >= 1.", "input.text"),
            ({"text": "a", "times": 9}, "input.times: expected `int` <= 3.", "input.times"),
            ({"text": "a", "tims": 9}, "Unknown parameter: 'input.tims'.", "input.tims"),
            ([], "input: expected `object`, got `array`.", "input"),
            (b'{"text": "a"', "input: this is no JSON", "input"),
        ],
    )
    def test_the_field_is_named(self, tmp_path: Path, row: object, said: str, param: str) -> None:
        error = refused(opened(tmp_path), row)
        assert error.message.startswith(said)
        assert error.param == param

    def test_a_check_of_the_users_own_is_told_if_it_is_a_value_error(self, tmp_path: Path) -> None:
        head = (
            "import msgspec\nclass Row(msgspec.Struct):\n    x: int\n    def __post_init__(self):\n"
            "        if self.x == 1: raise ValueError('x is odd')\n        {}[self.x - 2]\n"
        )
        code = predicting("return rows", head=head, row="Row")
        model = opened(tmp_path, code)
        assert refused(model, {"x": 1}).message == "input: x is odd."
        assert "The worker's log says why" in refused(model, {"x": 3}).message
        leaving = opened(tmp_path, code.replace("{}[self.x - 2]", "exit(0)"), file="leaving.py")
        assert "The worker's log says why" in refused(leaving, {"x": 3}).message


class TestClassesThatCanNotBeRun:
    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("class Words: pass", "it has no method `predict`"),
            (predicting("raise").replace("def", "async def"), "neither async nor a generator"),
            (predicting("yield 1"), "neither async nor a generator"),
            ("class Words:\n    def predict(self, rows): ...", "annotate its argument as `list"),
            ("class Words:\n    def predict(self, rows: dict): ...", "annotate its argument"),
            ("class Words:\n    def predict(self): ...", "write it as `def predict(self, rows"),
            ("class Words:\n    def predict(self, a: list[dict], b): ...", "write it as `def"),
            ("class Words:\n    def predict(self, *, a: list[dict]): ...", "write it as `def"),
            ("class Words:\n    def predict(self, rows: 'list[Nobody]'): ...", "'Nobody' is not"),
            ("class Words:\n    def predict(self, rows: list[int]): ...", "a row is a JSON object"),
            ("class Words:\n    def predict(self, rows: list[complex | object]): ...", "a row"),
            (predicting("return rows") + "    max_rows = 0\n", "`max_rows` must be 1 or more"),
            (predicting("return rows") + "    max_rows = '3'\n", "and not a str"),
            (predicting("return rows") + "    samples = 3\n", "`samples` must be a list of rows"),
            (predicting("return rows") + "    samples = [object()]\n", "can't be written as JSON"),
            (predicting("return rows") + "    files = 'a.npz'\n", "`files` must be a list"),
            (predicting("return rows") + "    files = ['a.npz']\n", "there is no "),
            ("import nobody_has_this\n", "line 1: ModuleNotFoundError: No module named 'nobody_h"),
            ("class Words:\n    def predict(", "line 2: SyntaxError: '(' was never closed"),
            ("class Words:\n    def __init__(self, x): ...", "could not be made: "),
            (
                "class Words:\n    def load(self):\n        raise OSError('no\\nfile')\n",
                "could not be loaded: {file}, line 3: OSError: no file. Mend it",
            ),
            ("class Words:\n    def load(self):\n        exit(0)\n", "line 3: SystemExit: 0"),
        ],
    )
    def test_it_is_said_what_is_wrong_where_and_what_to_do(
        self, tmp_path: Path, code: str, said: str
    ) -> None:
        with pytest.raises(ArtifactError) as caught:
            opened(tmp_path, code)
        assert said.format(file=tmp_path / "model.py") in caught.value.message
        assert str(tmp_path / "model.py") in caught.value.message
        assert "'words'" in caught.value.message

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("gone.py:Words", r"source names .*gone\.py, which is not there"),
            ("model.py:Nobody", r"the class 'Nobody', and in .*model\.py there is only Row, Words"),
            ("nobody_has_this:Words", "'nobody_has_this' is neither in .* nor installed"),
            ("nobody_has_this.either:Words", "'nobody_has_this' is neither in"),
            ("json.nothing:Words", "'json.nothing' is neither in"),
        ],
    )
    def test_a_class_that_is_not_there_is_the_catalogs_fault(
        self, tmp_path: Path, source: str, said: str
    ) -> None:
        user_model(tmp_path)
        with pytest.raises(ConfigurationError, match=said):
            PythonModel(ModelSpec(**{**spec_of(tmp_path), "source": source}))

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            (
                WORDS.replace('"a"}', '"a", "x": 1}'),
                r"`samples\[0\]` .*Unknown parameter: 'input.x'",
            ),
            (WORDS.replace(".upper()", ".nothing()"), "AttributeError: .*'nothing'"),
            (WORDS.replace("return [", "return 3, *["), "gave 2 outputs for 1 rows"),
        ],
    )
    def test_one_that_fails_on_its_own_samples_does_not_become_ready(
        self, tmp_path: Path, code: str, said: str
    ) -> None:
        with pytest.raises(ArtifactError, match=said) as caught:
            opened(tmp_path, code).warm()
        assert "model.py" in caught.value.message


class TestOutputsThatAreWrong:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("return [1]", "gave 1 outputs for 2 rows; it takes a list of rows and returns a list"),
            ("return None", "gave a NoneType for 2 rows"),
            ("return 'ab'", "gave a str for 2 rows"),
            ("return {1: 2, 3: 4}", "gave a dict for 2 rows"),
            ("return [object(), 1]", "gave a object that JSON can't say"),
            ("import sys; sys.exit(0)", "ended the program"),
            ("return (exit(0) for _ in rows)", "ended the program"),
        ],
    )
    def test_the_batch_fails_and_the_log_names_the_file(
        self, tmp_path: Path, body: str, said: str
    ) -> None:
        model = opened(tmp_path, predicting(body))
        with pytest.raises(BackendFailed) as caught:
            model.run(ready(model, {}, {}))
        assert said in caught.value.message

    def test_what_it_raises_itself_is_passed_on(self, tmp_path: Path) -> None:
        model = opened(tmp_path, predicting("return 1 / 0"))
        with pytest.raises(ZeroDivisionError):
            model.run(ready(model, {}))

    def test_a_closed_one_says_so(self, tmp_path: Path) -> None:
        model = opened(tmp_path)
        rows = ready(model, {"text": "a"})
        model.close()
        with pytest.raises(BackendFailed, match="closed"):
            model.run(rows)


class TestVersion:
    def test_it_is_that_of_the_code_and_not_of_where_it_lies(self, tmp_path: Path) -> None:
        one = opened(tmp_path / "one").version
        assert opened(tmp_path / "other").version == one
        assert len(one) == 12
        assert opened(tmp_path / "changed", WORDS + "# more\n").version != one

    def test_what_it_imports_from_beside_it_and_the_files_it_names_count(
        self, tmp_path: Path
    ) -> None:
        code = predicting("return rows", head="import beside_it\n") + "    files = ['weights']\n"
        versions = set()
        for number in ("1", "2"):
            for weights in ("a", "b"):
                folder = tmp_path / f"{number}{weights}"
                folder.mkdir()
                (folder / "beside_it.py").write_text(f"x = {number}\n")
                (folder / "weights").write_text(weights)
                sys.modules.pop("beside_it", None)
                versions.add(opened(folder, code).version)
        assert len(versions) == 4


def test_what_it_takes_is_told_once_it_is_warm(tmp_path: Path) -> None:
    told: list[Description] = []
    model = PythonModel(user_model(tmp_path), tell=told.append)
    assert told == []
    model.warm()
    (description,) = told
    assert description.version == model.version
    row = description.input_schema["$defs"]["Row"]
    assert row["properties"]["times"] == {
        "type": "integer", "minimum": 1, "maximum": 3, "default": 1
    }  # fmt: skip
    assert (row["required"], row["additionalProperties"]) == (["text"], False)
    assert description.output_schema == {"type": "string"}


def test_a_description_is_read_back_unless_it_is_of_another_class(tmp_path: Path) -> None:
    home = Descriptions(tmp_path / "home")
    assert home.read("words", source="x") is None
    told = Description("words", "x", "f" * 64, {"type": "object"}, {})
    home.write(told)
    assert home.read("words", source="x") == told
    assert home.read("words", source="y") is None
    (tmp_path / "home" / "described" / "words.json").write_bytes(b"{")
    assert home.read("words", source="x") is None


def test_a_home_that_can_not_be_written_to_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    Descriptions(tmp_path / "home").write(Description("words", "x", "f" * 64, {}, {}))


def test_a_worker_for_one_imports_no_other_backends_libraries(tmp_path: Path) -> None:
    user_model(tmp_path)
    (tmp_path / "models.toml").write_text(
        '[models.words]\ntask = "python"\nbackend = "python"\nsource = "model.py:Words"\n'
    )
    code = (
        "import sys; from pathlib import Path\n"
        "import forebay.inference.worker\n"
        "from forebay.inference.backends.load import load\n"
        "from forebay.runtime import catalog\n"
        "from forebay.storage.artifacts import ArtifactStore\n"
        "load(catalog.read(Path('models.toml')).find('words'), ArtifactStore('home')).warm()\n"
        "print({'torch', 'onnxruntime', 'numpy', 'tokenizers'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "set()\n", done.stderr
    assert Descriptions(tmp_path / "home").read("words", source="model.py:Words") is not None


def spec_of(folder: Path) -> dict[str, Any]:
    """The fields of a python model's spec."""
    spec = user_model(folder, WORDS)
    return {name: getattr(spec, name) for name in ModelSpec.__struct_fields__}


FILES = """
from pathlib import Path
import msgspec

class Row(msgspec.Struct):
    one: Path
    other: Path | None = None

class Words:
    samples = [Row(Path(__file__))]

    def predict(self, rows: list[Row]) -> list[Path]:
        return [row.one for row in rows]
"""


def kept_files(model: PythonModel, files: Files, *rows: object) -> list[FileRecord]:
    return [files.get(file_id) for file_id in answers(model, *rows)]


def test_paths_are_files_in_rows_and_outputs(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "files"), retention_s=60)
    model = PythonModel(user_model(tmp_path, FILES), files=lambda: files)
    model.warm()
    assert files.page(limit=1).files == []  # what samples gave is kept nowhere
    given = files.put([b"abc"], Terms(filename="../a b.tar.gz", purpose=Purpose.USER_DATA))
    one, other = kept_files(
        model, files, {"one": given.id}, {"one": "data:image/png;base64,YWJjZA=="}
    )
    assert (one.filename, one.bytes, one.purpose) == ("a b.tar.gz", 3, Purpose.OUTPUT)
    assert (other.filename, other.bytes, other.media_type) == ("file.png", 4, "image/png")
    assert list(Path(tempfile.gettempdir()).glob("forebay-*/*/a b.tar.gz")) == []


def test_a_path_that_is_no_temporary_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    stays, goes = tmp_path / "stays.txt", tmp_path / "temporary" / "goes.txt"
    for path in (stays, goes):
        path.write_bytes(b"x")
    files = Files(str(tmp_path / "files"), retention_s=60)
    code = predicting(
        "return [Path(row['path']) for row in rows]", head="from pathlib import Path\n"
    )
    model = PythonModel(user_model(tmp_path, code), files=lambda: files)
    made = kept_files(model, files, {"path": str(stays)}, {"path": str(goes)})
    assert [one.filename for one in made] == ["stays.txt", "goes.txt"]
    assert stays.exists()
    assert not goes.exists()
    with pytest.raises(BackendFailed, match=r"there is no file '/nowhere/x'"):
        answers(model, {"path": "/nowhere/x"})


def test_the_schema_says_what_a_file_is_given_as(tmp_path: Path) -> None:
    schema = opened(tmp_path, FILES).description.input_schema
    assert schema["$defs"]["Row"]["properties"]["one"]["format"] == "uri"
    assert schema["$defs"]["Row"]["properties"]["other"]["anyOf"][0]["format"] == "uri"


def test_without_a_store_files_are_given_as_they_are(tmp_path: Path) -> None:
    model = opened(tmp_path, FILES)
    model.warm()
    error = refused(model, {"one": "file-" + "0" * 32})
    assert "give a data: URL" in error.message
    assert error.param == "input.one"
