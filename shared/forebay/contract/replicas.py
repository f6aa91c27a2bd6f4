"""How many replicas of a model there may be, and how fast what waits is to be worked off."""

import math

import msgspec

from forebay.contract.errors import ConfigurationError

MOST = 1_000
"""Replicas that a model may be given."""


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[models.NAME.replicas]` table: bounds within which workers come and go.

    Attributes:
        min: replicas that are there even if nothing is to be done. With 0 the first request
            starts one.
        max: most replicas. If not given, as many as `min`, and at least 1.
        stable_s: replicas that were not all needed for so long become as many as were; `idle_s` if
            that is less.
        idle_s: the last one goes where none was needed for so long.
        start_s: how long a replica may take to start. What somebody waits for and finds none
            there has so much more time.
    """

    min: int = 1
    max: int | None = None
    stable_s: float = 15.0
    idle_s: float = 60.0
    start_s: float = 60.0

    @property
    def most(self) -> int:
        """How many there may be."""
        return max(self.min, 1) if self.max is None else self.max

    @property
    def is_fixed(self) -> bool:
        """Whether there are always as many."""
        return self.most == self.min

    @property
    def from_zero(self) -> bool:
        """Whether there may be none."""
        return self.min == 0

    @property
    def grace_s(self) -> float:
        """Time that a request is given beyond its deadline if no replica is there."""
        return self.start_s if self.from_zero else 0.0

    def check(self, where: str) -> None:
        """Hold each value against its range.

        Args:
            where: the table, for the error.

        Raises:
            ConfigurationError: a value is out of range; the message names the field.
        """
        for field, ok, rule in (
            ("min", 0 <= self.min <= MOST, f"from 0 to {MOST:,}"),
            (
                "max",
                self.max is None or max(self.min, 1) <= self.max <= MOST,
                f"at least 1, at least `min`, and at most {MOST:,}",
            ),
            ("stable_s", 0 < self.stable_s < math.inf, "more than 0, and finite"),
            ("idle_s", 0 < self.idle_s < math.inf, "more than 0, and finite"),
            ("start_s", 0 < self.start_s < math.inf, "more than 0, and finite"),
        ):
            if not ok:
                raise ConfigurationError(f"{where}.{field}: must be {rule}.")
