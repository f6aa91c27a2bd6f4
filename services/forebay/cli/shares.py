"""Shares of a model's requests, as people say them: `v2=10`, and the rest as before."""

import math
from collections.abc import Mapping, Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.versions import WHOLE


def read_shares(wanted: Sequence[str], spec: ModelSpec) -> dict[str, float]:
    """The shares that `VERSION=PERCENT` words give.

    Raises:
        InvalidInput: a word is none, or names a version that the model doesn't have, or again.
    """
    given: dict[str, float] = {}
    for word in wanted:
        version, equals, text = word.partition("=")
        try:
            share = float(text.removesuffix("%"))
        except ValueError:
            share = math.nan
        if not equals or not 0 <= share <= WHOLE:
            raise InvalidInput(f"{word!r} is no VERSION=PERCENT, such as v2=10.")
        if version not in spec.shares:
            raise no_version(spec, version)
        if version in given:
            raise InvalidInput(f"{version} is there more than once.")
        given[version] = share
    return given


def filled(shares: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Shares of all versions: those given, and of the rest for each of the others what it had.

    Where the others had nothing, the rest is for the first of them.

    Raises:
        InvalidInput: they don't come to 100 %.
    """
    rest = WHOLE - math.fsum(given.values())
    others = {version: share for version, share in shares.items() if version not in given}
    if rest < -1e-6 or (not others and rest > 1e-6):
        raise InvalidInput(f"The shares come to {WHOLE - rest:g} %, and not to 100 %.")
    had = math.fsum(others.values())
    if others and had <= 0:
        others = {version: 1.0 if n == 0 else 0.0 for n, version in enumerate(others)}
        had = 1.0
    filled = {version: round(max(rest, 0) * share / had, 6) for version, share in others.items()}
    return {version: {**filled, **given}[version] for version in shares}


def no_version(spec: ModelSpec, version: str) -> InvalidInput:
    """The error for a version that a model doesn't have."""
    return InvalidInput(
        f"{spec.name!r} has no version {version[:80]!r}. Versions: {', '.join(spec.shares)}."
    )
