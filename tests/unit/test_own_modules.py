"""The modules beside a user's class are its own, whatever other classes the process has."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forebay.contract.errors import ArtifactError
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task, Value, ValueRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.python import PythonModel

HEAD = "from typing import Any\nRow = dict[str, Any]\n"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator["Opener"]:
    opener = Opener(tmp_path)
    yield opener
    for model in opener.models:
        model.close()


class Opener:
    """Loads classes, and closes them after the test.

    Args:
        folder: the catalog's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: list[PythonModel] = []

    def write(self, **files: str) -> None:
        """Write files; two underscores in a name stand for a slash."""
        for name, text in files.items():
            path = self.folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __call__(self, source: str, *, name: str = "") -> PythonModel:
        spec = ModelSpec(
            Task.PYTHON,
            BackendName.PYTHON,
            source=source,
            name=name or source,
            folder=str(self.folder),
        )
        self.models.append(PythonModel(spec))
        return self.models[-1]


def model(body: str, *, head: str = "") -> str:
    """A class whose `predict` is this."""
    return f"{HEAD}{head}\nclass Model:\n    def predict(self, rows: list[Row]):\n        {body}\n"


def answer(model: PythonModel) -> Any:
    (row,) = model.prepare([ValueRow(b"{}")], truncate=False)
    assert isinstance(row, PreparedRow)
    (output,) = model.run([row])
    assert isinstance(output, Value)
    return json.loads(output.json)


def two(opened: Opener, code: str) -> list[PythonModel]:
    """The same code in the folders a and b, each with a `helper` of its own."""
    for folder in "ab":
        opened.write(**{
            f"{folder}__model": code,
            f"{folder}__helper": f"WHO = '{folder}'\nclass Thing:\n    who = '{folder}'\n",
            f"{folder}__parcel____init__": "",
            f"{folder}__parcel__inner": "from helper import WHO\nfrom . import beside\n",
            f"{folder}__parcel__beside": f"X = '{folder}'\n",
        })  # fmt: skip
    return [opened("a/model.py:Model"), opened("b/model.py:Model")]


@pytest.mark.parametrize(
    "code",
    [
        model("return [WHO]", head="from helper import WHO"),
        model("return [helper.WHO]", head="import helper"),
        model("from helper import WHO; return [WHO]"),
        model("return [parcel.inner.WHO]", head="import parcel.inner"),
        model("from parcel import inner; return [inner.beside.X]"),
        model("import parcel.beside as b; return [b.X]"),
        model("from .helper import WHO; return [WHO]"),
        model("import importlib; return [importlib.import_module('helper').WHO]"),
        model("import importlib; return [importlib.import_module('parcel.inner').WHO]"),
        model("made = {}; exec('import helper', made); return [made['helper'].WHO]"),
    ],
)
def test_each_class_has_the_modules_beside_it(opened: Opener, code: str) -> None:
    a, b = two(opened, code)
    assert [answer(b), answer(a), answer(b)] == ["b", "a", "b"]


def test_on_any_thread(opened: Opener) -> None:
    a, b = two(opened, model("from parcel.inner import WHO; import helper; return [helper.WHO]"))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, [a, b] * 20)) == ["a", "b"] * 20


@pytest.mark.parametrize("loads", ["pickle.loads", "pickle._loads"])
def test_a_pickle_names_modules_as_whoever_trained_the_model_did(
    opened: Opener, loads: str
) -> None:
    opened.write(train="import pickle, helper; print(pickle.dumps(helper.Thing()).hex())")
    opened.write(helper="class Thing: pass")
    trained = subprocess.run(
        [sys.executable, "train.py"], cwd=opened.folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    read = f"return [{loads}(bytes.fromhex('{trained}')).who]"
    a, b = two(opened, model(read, head="import pickle, helper"))
    assert [answer(a), answer(b)] == ["a", "b"]


def test_what_asks_for_no_class_gets_no_class_by_chance(opened: Opener) -> None:
    a, _ = two(opened, model("return [helper.WHO]", head="import helper"))
    by_name = pickle.dumps(_global("helper", "WHO"))
    with pytest.raises((AttributeError, ModuleNotFoundError), match="several classes"):
        pickle.loads(by_name)
    a.close()
    assert pickle.loads(by_name) == "b"


class _global:  # noqa: N801
    """Pickled, it names something of a module."""

    def __init__(self, module: str, name: str) -> None:
        self.named = module, name

    def __reduce__(self) -> Any:
        return _look_up, self.named


def _look_up(module: str, name: str) -> Any:
    __import__(module)
    return getattr(sys.modules[module], name)


def test_what_is_pickled_comes_back_and_types_are_found_by_their_module(opened: Opener) -> None:
    head = (
        "from __future__ import annotations\nimport pickle, sys, dataclasses, typing\n"
        "from helper import Thing\n@dataclasses.dataclass\nclass Own:\n    x: Thing\n"
    )
    body = (
        "here = [sys.modules[c.__module__].__dict__[c.__name__] is c for c in (Own, Thing)]\n"
        "        again = pickle.loads(pickle.dumps(Own(Thing())))\n"
        "        return [[*here, typing.get_type_hints(Own)['x'] is Thing, again.x.who]]"
    )
    code = model(body).removeprefix(HEAD)
    _, b = two(opened, f"{head}{HEAD}{code}")
    assert answer(b) == [True, True, True, "b"]


def test_the_version_counts_the_classs_own_modules_and_no_others(opened: Opener) -> None:
    code = model("return [WHO]", head="from helper import WHO")
    opened.write(helper="WHO = 'outer'", model=code)
    alone = opened("model.py:Model").version
    _, b = two(opened, code)
    assert opened("model.py:Model", name="again").version == alone
    opened.write(b__helper="WHO = 'other'")
    assert opened("b/model.py:Model", name="changed").version != b.version


def test_a_class_that_is_loaded_again_has_its_modules_as_they_are_now(opened: Opener) -> None:
    opened.write(model=model("return [WHO]", head="from helper import WHO"), helper="WHO = 1")
    one = opened("model.py:Model")
    opened.write(helper="WHO = 'two'")
    other = opened("model.py:Model")
    assert [answer(one), answer(other)] == [1, "two"]
    assert one.version != other.version


def test_modules_of_a_class_that_is_gone_or_can_not_be_loaded_are_let_go(opened: Opener) -> None:
    before = set(sys.modules)
    opened.write(model="import beside_only_me\n1 / 0\n", beside_only_me="")
    with pytest.raises(ArtifactError, match=r"model\.py, line 2: ZeroDivisionError"):
        opened("model.py:Model")
    opened.write(model=model("return [1]", head="import beside_only_me"))
    opened("model.py:Model").close()
    assert not [name for name in set(sys.modules) - before if name.count(".") and "model" in name]


def test_a_module_by_name_has_its_own_too(opened: Opener) -> None:
    opened.write(
        helper="WHO = 'outer'",
        words=model("return [WHO]", head="from helper import WHO"),
        a__model=model("return [WHO]", head="from helper import WHO"),
        a__helper="WHO = 'a'",
    )
    assert [answer(opened("a/model.py:Model")), answer(opened("words:Model"))] == ["a", "outer"]


def test_the_folder_comes_before_what_is_installed_but_not_for_the_module_itself(
    opened: Opener,
) -> None:
    opened.write(
        json=model("return [json.dumps(colorsys.X)]", head="import json, colorsys"),
        colorsys="X = 1",
    )
    assert answer(opened("json.py:Model")) == "1"
    assert "colorsys" not in sys.modules or not hasattr(sys.modules["colorsys"], "X")


def test_a_mere_folder_hides_nothing_that_is_installed(opened: Opener) -> None:
    opened.write(model=model("return [msgspec.json.encode(1).decode()]", head="import msgspec"))
    (opened.folder / "msgspec").mkdir()
    assert answer(opened("model.py:Model")) == "1"


def test_a_module_that_is_missing_is_named_as_the_class_names_it(opened: Opener) -> None:
    opened.write(model="from parcel.gone import X\n", parcel____init__="")
    with pytest.raises(ArtifactError, match="line 1: ModuleNotFoundError: No module named 'parcel"):
        opened("model.py:Model")
