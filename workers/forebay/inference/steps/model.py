"""A pipeline, loaded: a user's class with `run`, or a chain of models that needs no code.

    class Ocr:
        samples = [{"image": "…"}]                           # optional: checked before it is ready
        files = ["words.txt"]                                # optional: part of the version
        def load(self) -> None: ...                          # optional: once, before it is ready
        async def run(self, row: Page, models: Models) -> Text:
            boxes = await models["detector"]([row.image])
            ...

A row is checked against the annotation before anything runs, and gives one output, of anything
that JSON can say.
"""

import hashlib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec

from forebay.contract.errors import BackendFailed, InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Task, Value
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.user_class import UserClass
from forebay.inference.backends.user_rows import (
    UNSAYABLE,
    RowType,
    WrongAnnotationError,
    encoded,
    kind_of,
)
from forebay.inference.steps.models import Models
from forebay.runtime.catalog import Catalog
from forebay.storage.descriptions import Description

HOW = "write it as `async def run(self, row: Row, models: Models) -> Output`"


class _Form(Protocol):
    """What a class and a chain have in common."""

    told: str
    rows: RowType

    def check(self) -> None: ...

    def digest(self) -> str: ...

    async def run(self, row: Any, models: Models) -> Any: ...

    def close(self) -> None: ...


class PipelineModel:
    """A pipeline.

    Args:
        spec: names its class, if it has one, and its steps.
        catalog: all models; the steps are among them.
        tell: is told, once the model is ready, what it is and what it takes.

    Raises:
        ConfigurationError: there is no such file, module or class.
        ArtifactError: it raised while it was imported, made or loaded, or is not as it should be.
    """

    def __init__(
        self,
        spec: ModelSpec,
        catalog: Catalog,
        *,
        tell: Callable[[Description], None] | None = None,
    ) -> None:
        self.steps: Mapping[str, ModelSpec] = {name: catalog.find(name) for name in spec.steps}
        self._form: _Form = (
            _Class(spec)
            if spec.source
            else _Chain([(name, self.steps[name].task) for name in spec.steps])
        )
        self._tell = tell
        told = ("pipeline 1", *spec.steps, self._form.digest())
        digest = hashlib.sha256("\0".join(told).encode())
        self._description = Description(
            model=spec.name,
            source=spec.source,
            digest=digest.hexdigest(),
            input_schema=self._form.rows.schema,
            output_schema=self._form.rows.output_schema,
        )

    @property
    def version(self) -> str:
        """Short digest of the class's code and the names of the steps, not of their versions."""
        return self._description.version

    @property
    def description(self) -> Description:
        """What it is, and what it takes."""
        return self._description

    def warm(self) -> None:
        """Check the class's samples; they are not run, because no step need be there yet.

        Raises:
            ArtifactError: a sample is refused.
        """
        self._form.check()
        if self._tell is not None:
            self._tell(self._description)

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Check rows against the annotation of `run`; there is nothing to cut, no option known.

        Returns:
            For each row, in order, the row ready to run or `InvalidInput`, which names the field.
        """
        return self._form.rows.prepare(rows, told=self._form.told)

    async def run(self, row: bytes, models: Models) -> Output:
        """Run a row that `prepare` has let pass.

        Args:
            row: its JSON.
            models: the steps.

        Raises:
            StepFailed: a step failed, and the code has not caught it.
            BackendFailed: the output is something that JSON can't say.
            Exception: whatever else the code raises.
        """
        output = await self._form.run(self._form.rows.decode(row), models)
        try:
            return Value(encoded(output))
        except UNSAYABLE as error:
            raise TypeError(
                f"`run` gave a {kind_of(output)} that JSON can't say ({error}): return numbers, "
                "texts, lists, dicts, structs or dataclasses"
            ) from error

    def close(self) -> None:
        """Let go of the user's object."""
        self._form.close()
        self._form = _Closed(self._form.rows)


class _Class:
    """A class with `run`."""

    def __init__(self, spec: ModelSpec) -> None:
        self._user = UserClass(spec)
        self.told = self._user.told
        run = getattr(self._user.object, "run", None)
        if not inspect.iscoroutinefunction(run):
            raise self._user.wrong(f"it has no coroutine method `run`: {HOW}.")
        self._run = cast("Callable[[Any, Models], Coroutine[Any, Any, Any]]", run)
        try:
            self.rows = RowType.of_run(run)
        except WrongAnnotationError as error:
            raise self._user.wrong(f"`run` does not tell what a row is: {error}.") from error

    def check(self) -> None:
        for index, sample in enumerate(self._user.samples):
            refused = self.rows.check(sample)
            if refused is not None:
                raise self._user.wrong(
                    f"`samples[{index}]` is no row of its own: {refused.message}"
                )

    def digest(self) -> str:
        return self._user.digest()

    async def run(self, row: Any, models: Models) -> Any:
        return await self._run(row, models)

    def close(self) -> None:
        self._user.close()


class _Chain:
    """Each step's output is the next one's row."""

    told = "chain"

    def __init__(self, steps: Sequence[tuple[str, Task]]) -> None:
        self._steps = steps
        self.rows = RowType(dict[str, Any], None)

    def check(self) -> None:
        """There is nothing to check."""

    def digest(self) -> str:
        return ""

    async def run(self, row: Any, models: Models) -> Any:
        value = row
        for name, task in self._steps:
            takes_objects = task in (Task.PYTHON, Task.PIPELINE)
            if takes_objects and not isinstance(value, dict | msgspec.Struct):
                value = {"value": value}
            (value,) = await models[name]([value])
        return value

    def close(self) -> None:
        """There is nothing to close."""


class _Closed:
    """A pipeline that is no longer there."""

    told = "closed"

    def __init__(self, rows: RowType) -> None:
        self.rows = rows

    def check(self) -> None:
        """There is nothing to check."""

    def digest(self) -> str:
        return ""

    async def run(self, row: Any, models: Models) -> Any:
        raise BackendFailed("The model was closed.")

    def close(self) -> None:
        """It is."""
