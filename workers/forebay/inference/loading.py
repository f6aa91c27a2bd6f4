"""Loads models and lets go of them, and measures what they take.

What a model takes is what the process grows by while it is loaded and warmed, until it is unloaded
for the first time: what the process gives back then has what came with its largest batches, which
can be several times as much. A measure that was taken while other models ran says little, and
doesn't replace an earlier one.

Slots of a model that generates text take memory as they fill. What all of them come to is known,
and counts from the beginning: else a worker would be lost on the day on which they are all full.
"""

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from forebay.contract.errors import ArtifactError
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import import_libraries, load
from forebay.inference.generation.load import load as load_generator
from forebay.inference.generation.protocol import Generator
from forebay.inference.generation.reserve import Reserve, reserve_of
from forebay.inference.memory import give_back_all, resident_bytes
from forebay.inference.steps.model import PipelineModel
from forebay.runtime.catalog import Catalog
from forebay.storage.artifacts import ArtifactStore, read_manifest
from forebay.storage.descriptions import Descriptions
from forebay.storage.footprints import Footprint, Footprints

if TYPE_CHECKING:
    from forebay.storage.file_records import Files

log = logging.getLogger(__name__)

T = TypeVar("T")

GROWTH = 2.0
"""A graph takes about so many times its bytes on disk once it is loaded and warm, by measure of the
sample models in both precisions; used until a model has been measured itself."""

UNKNOWN_BYTES = 16_000_000
"""What a model without an artifact is taken for until then."""

UNKNOWN_S = 0.5
"""And how long a load takes."""


class Loaded(msgspec.Struct):
    """A model that is loaded and warm.

    Attributes:
        backend: which executes it; or the pipeline that it is, or what generates its texts.
        footprint: what it takes.
    """

    backend: Backend | PipelineModel | Generator
    footprint: Footprint


class Loader:
    """Loads models of one home folder.

    Args:
        home: where artifacts are, and what was measured.
        catalog: all models; a pipeline's steps are among them.
        opens: makes a backend of a spec; by default that of the spec's own kind.
        files: opens the store of what python models take and make.
    """

    def __init__(
        self,
        home: str | Path,
        catalog: Catalog,
        *,
        opens: Callable[[ModelSpec], Backend | Generator] | None = None,
        files: "Callable[[], Files] | None" = None,
    ) -> None:
        self._store = ArtifactStore(Path(home))
        self._catalog = catalog
        self._opens = opens or self._open
        self._files = files
        self._footprints = Footprints(home)

    def import_libraries(self, specs: Iterable[ModelSpec]) -> None:
        """Import what these models' backends take; before anything is measured."""
        import_libraries(specs)

    def estimate(self, spec: ModelSpec) -> Footprint:
        """What a model will take: as it was measured last, or as its artifact's size suggests."""
        return self._with_slots(spec, self._estimate(spec))

    def reserve(self, spec: ModelSpec) -> Reserve | None:
        """What the slots of a model come to; None if it has none, or isn't built."""
        if spec.task is not Task.GENERATION or not spec.is_built:
            return None
        try:
            manifest = read_manifest(self._store.current(spec.name), model=spec.name)
        except ArtifactError:
            return None
        return reserve_of(spec, manifest)

    def _with_slots(self, spec: ModelSpec, footprint: Footprint) -> Footprint:
        reserve = self.reserve(spec)
        if reserve is None:
            return footprint
        full = max(footprint.bytes, footprint.load_bytes + reserve.bytes)
        return msgspec.structs.replace(footprint, bytes=full)

    def _estimate(self, spec: ModelSpec) -> Footprint:
        noted = self._footprints.read(spec.name, source=spec.source)
        if not spec.is_built:
            return noted or _guess(spec, "", UNKNOWN_BYTES)
        try:
            manifest = read_manifest(self._store.current(spec.name), model=spec.name)
        except ArtifactError:
            return noted or _guess(spec, "", UNKNOWN_BYTES)
        if noted is not None and noted.version == manifest.version:
            return noted
        size = int(GROWTH * sum(file.bytes for file in manifest.files))
        return _guess(spec, manifest.version, size)

    def load(self, spec: ModelSpec, *, quiet: Callable[[], bool] = lambda: True) -> Loaded:
        """Load a model and run its samples; on any thread.

        Args:
            spec: the model.
            quiet: asked before and after: whether nothing else runs in this process.

        Raises:
            ArtifactError: its artifact is missing or damaged, or it doesn't load.
            ConfigurationError: a setting of it is wrong.
        """
        give_back_all()  # what lies about, and went meanwhile, would make the model smaller
        was_quiet, before = quiet(), resident_bytes()
        began = time.monotonic()
        backend = self._opens(spec)
        loaded = time.monotonic()
        try:
            backend.warm()
        except BaseException:
            backend.close()
            raise
        warm = time.monotonic()
        took = max(resident_bytes() - before, 0)
        log.info(
            "%s %s is ready: loaded in %.0f ms, warm in %.0f ms",
            spec.name,
            backend.version,
            (loaded - began) * 1000,
            (warm - loaded) * 1000,
        )
        footprint = Footprint(
            spec.name, spec.source, backend.version, took, load_bytes=took, load_s=warm - began
        )
        noted = self._noted(footprint)
        if noted is not None:
            # Of the last time it is known what it came to with work.
            most = max(took, noted.bytes) if was_quiet and quiet() else noted.bytes
            footprint = msgspec.structs.replace(footprint, bytes=most)
        self._footprints.write(footprint)
        return Loaded(backend, self._with_slots(spec, footprint))

    def unload(
        self, spec: ModelSpec, loaded: Loaded, *, quiet: Callable[[], bool] = lambda: True
    ) -> int:
        """Close a model that nothing runs on any more; the bytes that the process has given back.

        Args:
            spec: the model.
            loaded: as it was loaded; of no use any more.
            quiet: as for `load`.
        """
        give_back_all()  # what lies about already is not the model's
        was_quiet, before = quiet(), resident_bytes()
        loaded.backend.close()
        del loaded.backend
        give_back_all()
        given_back = before - resident_bytes()
        if was_quiet and quiet():
            # Less than was noted may be less than it took: pages that it shared stay.
            noted = self._noted(loaded.footprint) or loaded.footprint
            size = max(given_back, (given_back + noted.bytes) // 2)
            self._footprints.write(msgspec.structs.replace(loaded.footprint, bytes=size))
        return given_back

    def _open(self, spec: ModelSpec) -> Backend | PipelineModel | Generator:
        if spec.task is Task.GENERATION:
            return load_generator(spec, self._store)
        if spec.backend is BackendName.PIPELINE:
            tell = Descriptions(self._store.home).write
            return PipelineModel(spec, self._catalog, tell=tell)
        return load(spec, self._store, files=self._files)

    def _noted(self, footprint: Footprint) -> Footprint | None:
        noted = self._footprints.read(footprint.model, source=footprint.source)
        return noted if noted is not None and noted.version == footprint.version else None


def _guess(spec: ModelSpec, version: str, size: int) -> Footprint:
    return Footprint(spec.name, spec.source, version, size, load_bytes=size, load_s=UNKNOWN_S)


async def on_thread(name: str, work: Callable[[], T]) -> T:
    """Do something long on a thread of its own, which doesn't keep the process from ending.

    Raises:
        Exception: whatever it raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_: Callable[[], None]) -> None:
        if not done.done():
            set_()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            finish = functools.partial(done.set_exception, failure)
        else:
            finish = functools.partial(done.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, finish)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
