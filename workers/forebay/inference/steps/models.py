"""What the code of a pipeline calls: its steps, by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from forebay.contract.errors import ErrorInfo, ErrorKind, StepFailed
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Aggregation, Function, Options
from forebay.inference.backends.user_rows import UNSAYABLE, kind_of
from forebay.inference.steps.calls import Calls
from forebay.inference.steps.values import row_of, value_of

T = TypeVar("T")


class Step:
    """One step, for one row of the pipeline.

    Args:
        spec: of the model.
        calls: the row's.
    """

    def __init__(self, spec: ModelSpec, calls: Calls) -> None:
        self._spec = spec
        self._calls = calls

    @overload
    async def __call__(
        self,
        rows: Sequence[Any],
        *,
        as_: type[T],
        truncate: bool = ...,
        top_k: int = ...,
        function: Function | None = ...,
        aggregation: Aggregation = ...,
    ) -> list[T]: ...

    @overload
    async def __call__(
        self,
        rows: Sequence[Any],
        *,
        truncate: bool = ...,
        top_k: int = ...,
        function: Function | None = ...,
        aggregation: Aggregation = ...,
    ) -> list[Any]: ...

    async def __call__(
        self,
        rows: Sequence[Any],
        *,
        as_: Any = Any,
        truncate: bool = False,
        top_k: int = 1,
        function: Function | None = None,
        aggregation: Aggregation = Aggregation.NONE,
    ) -> list[Any]:
        """Run rows on the step's lane, together with whatever else is there.

        Args:
            rows: any number of them; see `values.row_of`.
            as_: type of the outputs, where they are JSON: a struct, a dataclass, a `TypedDict`.
            truncate: cut over-long texts instead of failing.
            top_k: labels of a classifier, the best ones; 0 means all, and other than 1 a list.
            function: makes a classifier's scores; None is the model's own.
            aggregation: of labelled tokens.

        Returns:
            One output a row, in order; see `values.value_of`.

        Raises:
            StepFailed: the step failed on a row, or it gave something that is no `as_`.
            TypeError: these are no rows of the step's.
        """
        if isinstance(rows, str | bytes | Mapping):
            raise TypeError(f"{self._spec.name!r} takes a list of rows, and not a {kind_of(rows)}")
        if not rows:
            return []
        options = Options(top_k, function, aggregation)
        try:
            given = [row_of(self._spec.task, row) for row in rows]
        except UNSAYABLE as error:
            raise TypeError(f"a row for {self._spec.name!r}: {error}") from error
        outputs = await self._calls.call(self._spec, given, truncate=truncate, options=options)
        try:
            return [value_of(output, options, type_=as_) for output in outputs]
        except ValueError as error:
            why = ErrorInfo(ErrorKind.BACKEND_FAILED, f"what it gave is no {as_}: {error}.")
            raise StepFailed(self._spec.name, why) from error


class Models(Mapping[str, Step]):
    """The steps of a pipeline, for one row.

    Args:
        specs: of the models that it may call, by name.
        calls: the row's.
    """

    def __init__(self, specs: Mapping[str, ModelSpec], calls: Calls) -> None:
        self._specs = specs
        self._calls = calls

    def __getitem__(self, name: str) -> Step:
        """One of them.

        Raises:
            KeyError: `steps` in models.toml does not name it.
        """
        spec = self._specs.get(name)
        if spec is None:
            raise KeyError(f"{name!r} is not among the pipeline's steps: {', '.join(self._specs)}")
        return Step(spec, self._calls)

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._specs)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._specs)
