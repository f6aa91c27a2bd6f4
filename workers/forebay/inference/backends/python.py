"""A user's own class as a model.

    class Sentiment:
        samples = [{"text": "fine"}]                      # optional: run before it is ready
        max_rows = 64                                     # optional: most rows of one call
        files = ["weights.npz"]                           # optional: part of the version
        def load(self) -> None: ...                       # optional: once, before it is ready
        def predict(self, rows: list[Row]) -> list[Out]: ...

Rows are checked against the annotation before anything runs; `predict` gets them as objects of that
type and gives as many outputs, in order, of anything that JSON can say. A `pathlib.Path` is a file,
in a row and in an output.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from forebay.contract.errors import BackendFailed, InvalidInput, Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Value, ValueRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.user_class import UserClass
from forebay.inference.backends.user_files import UserFiles
from forebay.inference.backends.user_rows import (
    UNSAYABLE,
    RowType,
    WrongAnnotationError,
    encoded,
    kind_of,
)
from forebay.inference.logs import said_of_some
from forebay.storage.descriptions import Description

if TYPE_CHECKING:
    from forebay.storage.file_records import Files

log = logging.getLogger(__name__)

OUTPUTS = "it takes a list of rows and returns a list with one output for each, in the same order"


class PythonModel:
    """A user's class, loaded.

    Args:
        spec: names the class.
        tell: is told, once the model is warm, what it is and what it takes.
        files: opens the store of files that rows name and outputs are; without it there is none.

    Raises:
        ConfigurationError: there is no such file, module or class.
        ArtifactError: it raised while it was imported, made or loaded, or is not as it should be.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        tell: Callable[[Description], None] | None = None,
        files: "Callable[[], Files] | None" = None,
    ) -> None:
        self._user = UserClass(spec)
        self._files = UserFiles(files)
        self._tell = tell
        predict = getattr(self._user.object, "predict", None)
        if not callable(predict):
            raise self._user.wrong(f"it has no method `predict`: {OUTPUTS}.")
        if inspect.iscoroutinefunction(predict) or inspect.isgeneratorfunction(predict):
            raise self._user.wrong(
                f"`predict` must be a plain function, and neither async nor a generator: {OUTPUTS}."
            )
        self._predict = cast("Callable[[list[Any]], Any]", predict)
        try:
            self._rows = RowType.of_predict(predict, self._files)
        except WrongAnnotationError as error:
            raise self._user.wrong(f"`predict` does not tell what a row is: {error}.") from error
        self._max_rows = self._user.option("max_rows", int, "a number of rows, 1 or more")
        if self._max_rows is not None and self._max_rows < 1:
            raise self._user.wrong("`max_rows` must be 1 or more.")
        self._samples = self._user.samples
        self._description = Description(
            model=spec.name,
            source=spec.source,
            digest=self._user.digest(),
            input_schema=self._rows.schema,
            output_schema=self._rows.output_schema,
        )

    @property
    def streams(self) -> int:
        """One: a user's class need not be safe to call from several threads."""
        return 1

    @property
    def version(self) -> str:
        """Short digest of the class's code."""
        return self._description.version

    @property
    def description(self) -> Description:
        """What it is, and what it takes."""
        return self._description

    def warm(self) -> None:
        """Run the class's samples, each alone and then all together.

        Raises:
            ArtifactError: a sample is refused, or the class fails on it.
        """
        prepared = self.prepare(self.samples, truncate=False)
        ready = [row for row in prepared if isinstance(row, PreparedRow)]
        for index, row in enumerate(prepared):
            if isinstance(row, InvalidInput):
                raise self._user.wrong(f"`samples[{index}]` is no row of its own: {row.message}")
        with self._files.rehearsing():
            for batch in (*([row] for row in ready), ready):
                self._user.attempt("run on its own samples", functools.partial(self.run, batch))
        if self._tell is not None:
            self._tell(self._description)

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Check rows against the annotation of `predict`; there is nothing to cut, no option known.

        Returns:
            For each row, in order, the row ready to run or `InvalidInput`, which names the field.
        """
        return self._rows.prepare(rows, told=self._user.told)

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """Call `predict`, with at most `max_rows` rows at a time.

        Returns:
            A `Value` a row, in order.

        Raises:
            BackendFailed: it raised, gave another number of outputs than rows, or something that
                JSON can't say.
        """
        most = self._max_rows or max(len(rows), 1)
        outputs: list[Output] = []
        for start in range(0, len(rows), most):
            with self._files.lent(), said_of_some(start, start + most):
                outputs += self._called([row.data for row in rows[start : start + most]])
        return outputs

    @property
    def samples(self) -> list[Row]:
        """The class's own."""
        return [ValueRow(row) for row in self._samples]

    def close(self) -> None:
        """Let go of the user's object."""
        self._predict = _closed
        self._user.close()

    def _called(self, rows: list[bytes]) -> list[Output]:
        try:
            # Made anew for each run: what a run that fails did to its rows is not to be seen.
            given = self._predict([self._rows.decode(row) for row in rows])
            outputs = _listed(given)
        except SystemExit as error:
            raise self._failed("`predict` ended the program; raise an error instead.") from error
        if outputs is None or len(outputs) != len(rows):
            gave = f"{len(outputs)} outputs" if outputs is not None else f"a {kind_of(given)}"
            raise self._failed(f"`predict` gave {gave} for {len(rows)} rows; {OUTPUTS}.")
        values: list[Output] = []
        for output in outputs:
            try:
                values.append(Value(encoded(output, file=self._files.kept)))
            except Unavailable as error:
                raise self._failed(
                    f"a file that `predict` gave is lost: {error.message}"
                ) from error
            except UNSAYABLE as error:
                raise self._failed(
                    f"`predict` gave a {kind_of(output)} that JSON can't say ({error}): return "
                    "numbers, texts, lists, dicts, structs, dataclasses, or paths of files."
                ) from error
        return values

    def _failed(self, what: str) -> BackendFailed:
        # Rows of a batch that fails may succeed one by one, and then nobody else would say why.
        log.error("%s: %s", self._user.told, what)
        return BackendFailed(f"{self._user.told}: {what}")


def _listed(given: Any) -> list[Any] | None:
    """Outputs as a list; None where this can't be one output for each row."""
    if isinstance(given, (str, bytes, bytearray, dict)) or not isinstance(given, Iterable):
        return None
    return list(given)


def _closed(rows: list[Any]) -> Any:
    raise BackendFailed("The model was closed.")
