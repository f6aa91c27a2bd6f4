"""The sample that a build leaves beside its artifact, for drift to be held against."""

from forebay.assess.artifacts import warm
from forebay.assess.rows import shipped_rows
from forebay.contract.model import ModelSpec
from forebay.contract.sketch import Reference, Sketch
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.watch.sketcher import Sketcher
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.references import References

SHIPPED = "shipped texts"

BATCH_ROWS = 8


def leave_reference(spec: ModelSpec, store: ArtifactStore) -> Reference:
    """Run the shipped texts through a model that was just built, and keep what came of it.

    It goes through what a worker counts with, so that the same texts served give the same counts.
    The artifact's digest does not cover it.

    Raises:
        InvalidInput: the model takes no texts.
        ArtifactError: it doesn't load.
        OSError: the disk can't be written to.
    """
    backend = warm(spec, store)
    try:
        reference = Reference(spec.name, backend.version, SHIPPED, _sketch(spec, backend))
    finally:
        backend.close()
    References(store).leave(reference)
    return reference


def _sketch(spec: ModelSpec, backend: Backend) -> Sketch:
    sketcher = Sketcher(1.0, most_s=float("inf"))
    rows = shipped_rows(spec.task, backend)
    for start in range(0, len(rows), BATCH_ROWS):
        chosen = rows[start : start + BATCH_ROWS]
        prepared = backend.prepare(chosen, truncate=True)
        sketcher.asked(chosen, prepared)
        sketcher.answered(backend.run([row for row in prepared if isinstance(row, PreparedRow)]))
    return Sketch.of_fields(sketcher.take())
