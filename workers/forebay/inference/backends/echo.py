"""The echo backend: gives back the bytes it was given. It measures the path, not a model."""

from collections.abc import Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Value, ValueRow
from forebay.inference.backends.base import PreparedRow


class Echo:
    """A backend that does nothing. Takes `ValueRow`s, gives a `Value` with the same bytes."""

    @property
    def streams(self) -> int:
        """One: more would only fight over the interpreter."""
        return 1

    @property
    def version(self) -> str:
        """The backend's own name: there is no artifact."""
        return "echo"

    def warm(self) -> None:
        """Nothing to warm."""

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Every JSON row passes; `truncate` has nothing to cut."""
        return [
            PreparedRow(1, row.json)
            if isinstance(row, ValueRow)
            else InvalidInput("This model takes JSON values, not text or tokens.", row=index)
            for index, row in enumerate(rows)
        ]

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """The rows' own bytes."""
        return [Value(row.data) for row in rows]

    def close(self) -> None:
        """Nothing to free."""
