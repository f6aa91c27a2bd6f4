"""Patterns of JSON schemas that the grammar would hold texts to wrongly."""

import re
from collections.abc import Iterator
from typing import Final

_CONTROLS: Final = "".join(map(chr, range(0x20)))
_ESCAPED: Final = '"\\'
# What Python reads otherwise than Rust does, or not at all.
_FOREIGN: Final = re.compile(r"\\[pPhHzZQx]\{?|\\u\{|&&|--|~~|(?<!^)\[")
_HEX: Final = re.compile(r"\\x[0-9a-fA-F]{2}")
_NO_NUL: Final = re.compile(r"\\x00|\\u0000|\\0|\\p\{?C")


def misread(pattern: str) -> str | None:
    """The first class of a pattern that a string in JSON can't be held to; None if there is none.

    In JSON a control character, `"` and a backslash are escaped. Of a class with all control
    characters, the grammar takes every escape, so it would let `"` and a backslash through where
    the class is without them. A class that can't be read here is one of these unless it plainly
    has no U+0000.
    """
    for one in _classes(pattern):
        negated = one.startswith("[^")
        if _FOREIGN.search(_HEX.sub("0", one)):
            if negated and not _NO_NUL.search(one):
                return one
            continue
        try:
            read = re.compile(one, re.ASCII)
        except re.error:
            # The worker refuses what is no pattern.
            continue
        if all(map(read.match, _CONTROLS)) and not all(map(read.match, _ESCAPED)):
            return one
    return None


def _classes(pattern: str) -> Iterator[str]:
    """Classes in brackets, with those inside them."""
    at = depth = begun = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "[":
            if not depth:
                begun = at
            depth += 1
            # A bracket that closes is a sign like others where it comes first.
            at += pattern.startswith("^", at + 1)
            at += pattern.startswith("]", at + 1)
        elif sign == "]" and depth:
            depth -= 1
            if not depth:
                yield pattern[begun : at + 1]
        at += 2 if sign == "\\" else 1
