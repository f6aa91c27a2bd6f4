"""What a model takes: guessed, measured, noted."""

import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Task
from forebay.inference.backends.base import PreparedRow
from forebay.inference.loading import UNKNOWN_BYTES, Loader, on_thread
from forebay.runtime.catalog import Catalog
from forebay.storage.footprints import Footprint, Footprints

MB = 1_000_000
SPEC = ModelSpec(Task.ECHO, BackendName.ECHO, source="s", name="heavy")


class Heavy:
    """Takes 50 MB once it is made, and as much again with its first batch."""

    version = "1"
    streams = 1

    def __init__(self, *, fails: bool = False) -> None:
        self.held = [b"x" * 50 * MB]
        self.closed = False
        self._fails = fails

    def warm(self) -> None:
        if self._fails:
            raise ArtifactError("It fails on its samples.")

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        return []

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        self.held.append(b"y" * 50 * MB)
        return []

    def close(self) -> None:
        self.held.clear()
        self.closed = True


def noted(home: Path) -> Footprint:
    found = Footprints(home).read("heavy", source="s")
    assert found is not None
    return found


def near(size: int, mb: int) -> bool:
    return 0.9 * mb * MB < size < 1.2 * mb * MB


class Measured(NamedTuple):
    """What a loader tells of a model, from its first load to its second."""

    unknown: int
    loaded: Footprint
    noted: Footprint
    given_back: int
    after: Footprint
    again: Footprint


def measure(home: Path) -> Measured:
    """Load a model, work with it, unload it and load it again."""
    loader = Loader(home, Catalog({}), opens=lambda _: Heavy())
    unknown = loader.estimate(SPEC).bytes
    loaded = loader.load(SPEC)
    first = noted(home)
    assert isinstance(loaded.backend, Heavy)
    loaded.backend.run([])
    given_back = loader.unload(SPEC, loaded)
    after = loader.estimate(SPEC)
    again = Loader(home, Catalog({}), opens=lambda _: Heavy()).load(SPEC)
    return Measured(unknown, loaded.footprint, first, given_back, after, again.footprint)


def test_a_model_is_guessed_then_measured_and_what_work_came_to_is_noted(tmp_path: Path) -> None:
    # In a process of its own: what other tests leave behind would count as the model's.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        told = process.submit(measure, tmp_path).result()
    assert told.unknown == UNKNOWN_BYTES
    assert near(told.loaded.bytes, 50)
    assert told.noted == told.loaded
    assert near(told.given_back, 100)
    assert near(told.after.bytes, 100)
    assert near(told.after.load_bytes, 50)
    assert near(told.again.bytes, 100)
    assert near(told.again.load_bytes, 50)


def test_a_measure_among_others_replaces_none(tmp_path: Path) -> None:
    loader = Loader(tmp_path, Catalog({}), opens=lambda _: Heavy())
    before = Footprint("heavy", "s", "1", 7 * MB, load_bytes=7 * MB, load_s=1.0)
    Footprints(tmp_path).write(before)
    loaded = loader.load(SPEC, quiet=lambda: False)
    assert loaded.footprint.bytes == 7 * MB
    loader.unload(SPEC, loaded, quiet=lambda: False)
    assert noted(tmp_path).bytes == 7 * MB


def test_what_fails_on_its_samples_is_closed(tmp_path: Path) -> None:
    made: list[Heavy] = []

    def open_(spec: ModelSpec) -> Heavy:
        made.append(Heavy(fails=True))
        return made[-1]

    with pytest.raises(ArtifactError, match="samples"):
        Loader(tmp_path, Catalog({}), opens=open_).load(SPEC)
    assert made[0].closed
    assert Footprints(tmp_path).read("heavy", source="s") is None


def test_a_note_that_is_damaged_or_of_another_source_is_none(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    footprints.write(Footprint("heavy", "other", "1", 1, load_bytes=1, load_s=1.0))
    assert footprints.read("heavy", source="s") is None
    (tmp_path / "footprints" / "heavy.json").write_text("{")
    assert footprints.read("heavy", source="s") is None


async def test_work_on_a_thread_comes_back_with_its_result_or_its_error() -> None:
    assert await on_thread("load x", lambda: threading.current_thread().name) == "load x"

    def fail() -> None:
        raise ArtifactError("It is damaged.")

    with pytest.raises(ArtifactError, match="damaged"):
        await on_thread("load x", fail)
