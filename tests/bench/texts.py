"""Texts of mixed length, the same on every machine.

Lengths are log-normal, 17 words on average: most texts are a question or a sentence, a few are a
paragraph. Those few are what makes padding expensive, as they do in real traffic.
"""

import random
from functools import cache
from math import exp, log
from pathlib import Path
from statistics import NormalDist

SENTENCES = Path(__file__).parent / "data" / "sentences.txt"

MEAN_WORDS = 17
SIGMA = 0.7
SHORTEST_WORDS = 2
LONGEST_WORDS = 120
"""Well inside a limit of 256 tokens, so that no system has to cut a text."""


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


@cache
def _words() -> tuple[str, ...]:
    return tuple(SENTENCES.read_text("utf-8").split())
