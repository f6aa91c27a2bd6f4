"""Which bins a row falls into. Pure, language-free, and coarse: no text can be read from a bin."""

import bisect
import functools
import math
import unicodedata
import zlib
from itertools import chain
from typing import Final

MOST_CHARACTERS = 1_000
"""Of a text so many characters are looked at: what it is written in shows early."""

_SIZES: Final = [0, 1, *chain.from_iterable((2**n, 3 * 2 ** (n - 1)) for n in range(1, 31))]

_LETTERS: Final = (
    (0x0080, "latin"),
    (0x0250, "latin-accented"),
    (0x0370, "phonetic"),
    (0x0400, "greek"),
    (0x0530, "cyrillic"),
    (0x0590, "armenian"),
    (0x0600, "hebrew"),
    (0x0780, "arabic"),
    (0x0900, "other-letter"),
    (0x0E00, "indic"),
    (0x0E80, "thai"),
    (0x1100, "other-letter"),
    (0x1200, "hangul"),
    (0x1E00, "other-letter"),
    (0x1F00, "latin-accented"),
    (0x2000, "greek"),
    (0x3040, "other-letter"),
    (0x3100, "kana"),
    (0x3400, "other-letter"),
    (0xA000, "han"),
    (0xAC00, "other-letter"),
    (0xD7B0, "hangul"),
    (0x20000, "other-letter"),
    (0x110000, "han"),
)
"""Alphabets by the code point before which they end, after the blocks of Unicode 16."""

_ENDS: Final = [end for end, _ in _LETTERS]

_OTHERS: Final = {
    "M": "mark",
    "N": "digit",
    "P": "punctuation",
    "S": "symbol",
    "Z": "space",
    "C": "control",
}
"""What is no letter, by the first letter of its general category in Unicode."""


def size(number: int) -> str:
    """Two bins for each doubling, named by where they begin: 0, 1, 2, 3, 4, 6, 8, 12, and so on."""
    return str(_SIZES[bisect.bisect_right(_SIZES, number) - 1])


def share(number: float) -> str:
    """Twenty bins from 0 to 1, named by where they begin; other numbers as `signed` has them."""
    if 0 <= number <= 1:
        return f"{min(int(number * 20), 19) / 20:.2f}"
    return signed(number)


def signed(number: float) -> str:
    """Bins of any number: its sign, and two for each doubling of its size; 0 under 1/16."""
    if not math.isfinite(number):
        return "none"
    if abs(number) < 1 / 16:
        return "0"
    halves = math.floor(2 * math.log2(abs(number)))
    sign = "-" if number < 0 else ""
    return f"{sign}{2 ** (max(min(halves, 40), -8) / 2):.3g}"


def ratio(number: float) -> str:
    """Eight bins for each doubling, for what hardly changes: a norm."""
    if not 0 < number < math.inf:
        return "none"
    return f"{2 ** (round(8 * math.log2(number)) / 8):.3f}"


def bucket(text: str, *, of: int) -> str:
    """One of so many buckets, by a hash of the text."""
    return f"#{zlib.crc32(text.encode(errors='surrogatepass')) % of}"


@functools.lru_cache(maxsize=8_192)
def alphabet(character: str) -> str:
    """The alphabet of a letter; of other characters what they are: digit, punctuation and so on."""
    category = unicodedata.category(character)
    if category[0] != "L":
        return _OTHERS[category[0]]
    name = _LETTERS[bisect.bisect_right(_ENDS, ord(character))][1]
    return "latin-capital" if name == "latin" and category == "Lu" else name
