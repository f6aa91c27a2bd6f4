"""A backend around a backend, which shows a sketcher what goes in and what comes out."""

from collections.abc import Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.watch.sketcher import Sketcher


class Watched:
    """Does what the backend does.

    Args:
        backend: the backend.
        sketcher: counts.
    """

    def __init__(self, backend: Backend, sketcher: Sketcher) -> None:
        self._backend = backend
        self.sketcher = sketcher

    @property
    def version(self) -> str:
        """The backend's."""
        return self._backend.version

    @property
    def streams(self) -> int:
        """The backend's."""
        return self._backend.streams

    def warm(self) -> None:
        """Warm the backend, unwatched: samples are nobody's traffic."""
        self._backend.warm()

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """What the backend makes of the rows."""
        prepared = self._backend.prepare(rows, truncate=truncate, options=options)
        self.sketcher.asked(rows, prepared)
        return prepared

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """What the backend gives."""
        outputs = self._backend.run(rows)
        self.sketcher.answered(outputs)
        return outputs

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()


def watched(spec: ModelSpec, backend: Backend) -> Backend:
    """The backend, watched if the model is."""
    return Watched(backend, Sketcher(spec.drift.sample)) if spec.is_watched else backend
