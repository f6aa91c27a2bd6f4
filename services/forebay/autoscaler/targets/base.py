"""The protocol between the loop and what starts and ends replicas."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from forebay.lanes.presence import Present


class Target(Protocol):
    """Starts and ends replicas of models."""

    def started(self, model: str, present: "Sequence[Present]") -> int:
        """Replicas of a model that have been started and are not leaving, ready or not."""
        ...

    def busy(self, model: str, present: "Sequence[Present]") -> int:
        """How many of those hold rows."""
        ...

    def scale(self, model: str, replicas: int, present: "Sequence[Present]") -> None:
        """Come as near to so many replicas as can be without ending one that is busy.

        Args:
            model: what they serve.
            replicas: how many there should be.
            present: the model's workers, whoever has started them.
        """
        ...
