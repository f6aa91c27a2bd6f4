"""`Cache-Control` (RFC 9111) as clients send it, `Cache-Status` (RFC 9211) as they are told."""

import re
from typing import Final

import msgspec

CACHE_NAME: Final = "forebay"
"""What this cache calls itself."""

CACHE_STATUS_HEADER: Final = b"cache-status"

_DIRECTIVE = re.compile(r"""\s*([^\s=,"]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*)))?\s*""")
_LONGEST_S: Final = 2**31
"""What a longer `max-age` counts as (RFC 9111, section 1.2.2)."""


class Directives(msgspec.Struct, frozen=True):
    """What a request asks of the cache (RFC 9111, section 5.2.1).

    Attributes:
        no_cache: don't answer from it.
        no_store: likewise, and keep nothing of the answer.
        only_if_cached: answer from it or not at all.
        max_age_ms: answer with nothing older.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_ms: float | None = None

    @property
    def alone(self) -> bool:
        """Whether it shares no run with others.

        `no-cache` wants one that begins after it was asked for, `no-store` an answer of its own.
        """
        return self.no_cache or self.no_store


NONE: Final = Directives()


def read(header: str) -> Directives:
    """What a `Cache-Control` header says; what is not known here changes nothing.

    A `max-age` that is no number counts as 0, as RFC 9111 has it for what can't be read.
    """
    if not header:
        return NONE
    told: dict[str, str] = {}
    for found in _DIRECTIVE.finditer(header):
        told.setdefault(found[1].lower(), found[2] or found[3] or "")
    age = told.get("max-age")
    return Directives(
        no_cache="no-cache" in told,
        no_store="no-store" in told,
        only_if_cached="only-if-cached" in told,
        max_age_ms=None if age is None else _seconds(age) * 1000,
    )


def hit(ttl_ms: float, *, detail: str = "") -> str:
    """All of the answer was cached.

    Args:
        ttl_ms: for how long it still answers.
        detail: more of it, in ASCII.
    """
    told = f"{CACHE_NAME}; hit; ttl={max(0, int(ttl_ms // 1000))}"
    return f'{told}; detail="{detail}"' if detail else told


def forwarded(why: str, *, stored: bool = False, collapsed: bool = False, detail: str = "") -> str:
    """It was run, all or a part of it.

    Args:
        why: a reason that RFC 9211 has: `bypass`, `request`, `miss`, `stale` or `partial`.
        stored: whether the answer is in the cache now.
        collapsed: whether it has joined what another has under way.
        detail: more of it, in ASCII.
    """
    told = f"{CACHE_NAME}; fwd={why}"
    if collapsed:
        told += "; collapsed"
    if stored:
        told += "; stored"
    return f'{told}; detail="{detail}"' if detail else told


def not_cached() -> str:
    """It was not cached, and was not to be run."""
    return f'{CACHE_NAME}; detail="only-if-cached"'


def _seconds(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        return 0
    digits = text.lstrip("0")
    return _LONGEST_S if len(digits) > len(str(_LONGEST_S)) else min(int(digits or 0), _LONGEST_S)
