"""Versions of a model: what they are called, their shares of its requests, and who gets which.

A model's own table in `models.toml` is a version too, and is served under the model's own name;
every other one is served under a name of its own, `MODEL@VERSION`, with lanes, workers and an
artifact of its own. A request is given to one of them before anything else is done with it.
"""

import hashlib
import math
import random
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

BETWEEN: Final = "@"
"""Stands between a model's name and a version's."""

VERSION_PATTERN: Final = "[a-z0-9][a-z0-9._-]{0,30}"

WHOLE: Final = 100.0
"""What shares come to together, per cent."""

_STEPS: Final = 2**52
"""So many hashes are told apart; a half more than any of them is a float still, and under 1."""


class Version(msgspec.Struct, frozen=True):
    """One `[models.NAME.versions.VERSION]` table: these fields, and any of the model's own.

    Attributes:
        weight: its share of the model's requests, per cent; what all weights leave is for the
            model's own table.
        shadow: whether it gets a copy of requests that another version answers, whose outputs are
            compared and never sent to anybody.
        sample: share of requests that are copied to it, 0..1.
    """

    weight: Annotated[float, Meta(ge=0, le=100)] = 0.0
    shadow: bool = False
    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0


OF_A_VERSION: Final = frozenset(Version.__struct_fields__)
"""Fields of a version's table that are not fields of a model's."""

OF_THE_MODEL: Final = frozenset({"task", "version", "versions"})
"""Fields of a model's table that a version's can't override."""


def served_name(model: str, version: str) -> str:
    """What a version beside the model's own table is served under: `minilm@v2`."""
    return f"{model}{BETWEEN}{version}"


def model_of(name: str) -> str:
    """The model that something served under this name is a version of."""
    return name.partition(BETWEEN)[0]


def choose(shares: Mapping[str, float], key: bytes | None) -> str:
    """The version that a request goes to.

    With a key it is the same one as long as shares stand, and when they change only those keys
    move that must: weighted rendezvous hashing. Each version scores `-share / ln(u)`, where `u` is
    a hash of key and version in (0, 1), and the highest score wins. A version wins by its share,
    and a changed share changes one score only. (D. Thaler, C. Ravishankar, "Using name-based
    mappings to increase hit rates", 1998; the weights: C. Schindelhauer, G. Schomaker, "Weighted
    distributed hash tables", 2005.)

    Args:
        shares: by version, 0 or more, and more than 0 together; in any unit.
        key: what is to stay with one version; None chooses at random.
    """
    if key is None:
        (chosen,) = random.choices(tuple(shares), tuple(shares.values()))  # noqa: S311
        return chosen
    return max(shares, key=lambda version: _score(shares[version], version, key))


def _score(share: float, version: str, key: bytes) -> float:
    if share <= 0:
        return -math.inf
    digest = hashlib.blake2b(key, digest_size=8, key=version.encode()).digest()
    return -share / math.log((int.from_bytes(digest, "big") % _STEPS + 0.5) / _STEPS)
