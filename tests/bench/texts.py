"""Texts of mixed length, the same on every machine.

Lengths are log-normal, 17 words on average: most texts are a question or a sentence, a few are a
paragraph. Those few are what makes padding expensive, as they do in real traffic.
"""

import random
from bisect import bisect
from functools import cache
from itertools import accumulate
from math import exp, log
from pathlib import Path
from statistics import NormalDist

SENTENCES = Path(__file__).parent / "data" / "sentences.txt"

MEAN_WORDS = 17
SIGMA = 0.7
SHORTEST_WORDS = 2
LONGEST_WORDS = 120
"""Well inside a limit of 256 tokens, so that no system has to cut a text."""

ZIPF_TEXTS = 2_000
ZIPF_POWER = 1.0


def make_texts(count: int, *, seed: str) -> list[str]:
    """`count` texts, no two of them equal.

    Args:
        count: how many. Lengths are the same throughout: where the sentences have no further window
            of a length, a number ends it.
        seed: another seed gives other texts.
    """
    words = _words()
    # Only `random()` is promised to give the same numbers in every Python release, so the
    # lengths come from it through the inverse of the normal distribution.
    draw = random.Random(seed).random
    normal = NormalDist(log(MEAN_WORDS) - SIGMA**2 / 2, SIGMA)
    texts: dict[str, None] = {}
    while len(texts) < count:
        length = round(exp(normal.inv_cdf(max(draw(), 1e-12))))
        length = min(max(length, SHORTEST_WORDS), LONGEST_WORDS)
        start = int(draw() * len(words))
        window = [words[(start + i) % len(words)] for i in range(length)]
        text = " ".join(window)
        if text in texts:
            text = " ".join([*window[:-1], f"{len(texts):,}"])
        texts[text] = None
    return list(texts)


def fixed_texts(count: int, *, seed: str) -> list[str]:
    """`count` texts of `MEAN_WORDS` words each, no two of them equal."""
    words = _words()
    draw = random.Random(seed).random
    starts = [int(draw() * len(words)) for _ in range(count)]
    # A number in each keeps apart those that begin at the same word.
    return [
        " ".join([*(words[(start + i) % len(words)] for i in range(MEAN_WORDS - 1)), str(number)])
        for number, start in enumerate(starts)
    ]


def zipf_texts(count: int, *, seed: str) -> list[str]:
    """`count` texts of mixed length, drawn from `ZIPF_TEXTS` with Zipf's law.

    The one of rank r comes in proportion to 1 / r to the power of `ZIPF_POWER`.

    Args:
        count: how many.
        seed: another seed draws otherwise, from the same texts.
    """
    known = make_texts(ZIPF_TEXTS, seed="zipf")
    shares = [1 / rank**ZIPF_POWER for rank in range(1, ZIPF_TEXTS + 1)]
    sums = list(accumulate(shares))
    draw = random.Random(seed).random
    return [known[bisect(sums, draw() * sums[-1], hi=ZIPF_TEXTS - 1)] for _ in range(count)]


@cache
def _words() -> tuple[str, ...]:
    return tuple(SENTENCES.read_text("utf-8").split())
