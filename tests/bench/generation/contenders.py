"""Who takes part in the rows of generated text of `make bench`.

Under a load of one stream the latency is the time to the first token; under one of several it is
the wait for the next.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import openai

from tests.bench.generation import loops, served, streams
from tests.bench.generation.subject import QUESTIONS, Subject
from tests.bench.loads import SMOLLM2_1, SMOLLM2_8, SMOLLM2_32, Load, Texts, Workload
from tests.bench.stats import Measurement, percentile

MODEL = "smollm2"
FOREBAY, BARE, STATIC = "forebay", "bare-decode", "transformers-static"
TITLES = {
    FOREBAY: "Forebay",
    BARE: "bare decode loop",
    STATIC: "transformers, a static batch in FP32",
}

TOKENS = 64
"""Of each text."""

STATIC_TOKENS = 32
"""Of each of transformers', which takes its time."""

FIRST_TOKENS = 8
"""How often the first token of a lone chat is waited for, after once to warm."""


class ForebayTexts:
    """Forebay, asked over HTTP.

    Args:
        port: of the gateway.
        key: API key that it is asked with, if it asks for one.
    """

    name = FOREBAY
    title = TITLES[FOREBAY]
    extra = False

    def __init__(self, port: int, key: str = "") -> None:
        self._port = port
        self._key = key
        self._client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key or "none")
        self._asked = 0

    def takes(self, load: Load) -> bool:
        """Whether texts are generated."""
        return load.workload is Workload.SMOLLM2

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Read all the load's streams at once, again until the time is over."""
        reads: list[streams.Read] = []
        rates: list[float] = []
        began = time.perf_counter()
        self._chats(load)
        while not rates or time.perf_counter() - began < seconds:
            some = self._chats(load)
            rates.append(served.rate(some))
            reads += some
        waits = [gap for read in reads for gap in read.gaps_s]
        if load.concurrency == 1:
            waits = [self._first_token_s() for _ in range(1 + FIRST_TOKENS)][1:]
        p50, p90, p99 = (percentile(sorted(waits), share) * 1e3 for share in (0.5, 0.9, 0.99))
        rate = statistics.median(rates)
        return Measurement(round(rate * 100), 0, 100.0, len(reads), p50, p90, p99)

    def settle(self, load: Load) -> int:
        """A stream that was read to its end leaves nothing to do."""
        return 0

    def _chats(self, load: Load) -> list[streams.Read]:
        asked = streams.chats(
            self._port, MODEL, streams=load.concurrency, tokens=TOKENS, key=self._key
        )
        return asyncio.run(asked)

    def _first_token_s(self) -> float:
        # A prompt that nobody has asked before: nothing but the template's beginning is known.
        self._asked += 1
        question = f"{QUESTIONS[self._asked % len(QUESTIONS)]} {self._asked}"
        return streams.first_token_s(self._client, MODEL, question)


class Loop:
    """One of the loops around the model, in this process.

    Args:
        name: a key of `TITLES`.
        loads: which it stands beside.
        rate: measures tokens a second of so many texts.
    """

    extra = False

    def __init__(self, name: str, loads: tuple[Load, ...], rate: Callable[[int], float]) -> None:
        self.name = name
        self.title = TITLES[name]
        self._loads = loads
        self._rate = rate

    def takes(self, load: Load) -> bool:
        """Whether it stands beside this load."""
        return load in self._loads

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Generate as many texts as the load has streams."""
        rate = self._rate(load.concurrency)
        return Measurement(round(rate * 100), 0, 100.0, load.concurrency)

    def settle(self, load: Load) -> int:
        """A loop that has answered has nothing left to do."""
        return 0


def bare(subject: Subject) -> Loop:
    """The bare decode loop on the artifact that Forebay serves."""
    session, prompts = subject.session(), subject.prompts()

    def rate(texts: int) -> float:
        return loops.bare(session, prompts[:texts], tokens=TOKENS)

    return Loop(BARE, (SMOLLM2_1, SMOLLM2_8, SMOLLM2_32), rate)


def static(subject: Subject, plain: Path) -> Loop:
    """What transformers makes of the same prompts.

    Args:
        plain: a folder of the model's FP32 weights.
    """
    generate, prompts = loops.transformers_static(plain, subject.threads), subject.prompts()

    def rate(texts: int) -> float:
        return generate(prompts[:texts], tokens=STATIC_TOKENS)

    return Loop(STATIC, (SMOLLM2_8,), rate)
