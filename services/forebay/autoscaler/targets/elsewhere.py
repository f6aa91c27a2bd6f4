"""Replicas that something else starts and ends, such as KEDA: that is told how many.

What is there is what is present on the lanes. One that is on its way isn't seen, so from none the
policy goes on asking for one until that has come.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lanes.presence import Present


class Elsewhere:
    """As `Target`: `Autoscaler` tells in Redis what is wanted, and whoever reads that acts."""

    def started(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`: those that are ready."""
        return len(present)

    def busy(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`."""
        return sum(one.busy for one in present)

    def scale(self, model: str, replicas: int, present: "Sequence[Present]") -> None:
        """Nothing: it is told."""
