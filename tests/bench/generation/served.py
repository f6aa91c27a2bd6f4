"""Peers that stream chats as OpenAI's API has them, read as Forebay is."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from tests.bench.generation import streams
from tests.bench.loads import HttpContender, Load, Texts, Workload
from tests.bench.stats import Measurement, percentile

TOKENS = 32
"""Of each text: half of Forebay's, as they take their time."""

ENDLESS: dict[str, object] = {
    "model": None,
    "generation_config": msgspec.json.encode(
        {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    ).decode(),
}
"""What makes transformers write on whatever the model would say: no token is the last one.

A server that has but one model knows it by a folder of its own, so none is named."""


class ServedTexts(HttpContender):
    """A peer whose target for generated text is its endpoint for chats."""

    _is_warm = False

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Read all the load's streams at once, again until the time is over.

        Latency is to the first token where there is one stream, and from one token to the next
        where there are several. Chats that are refused or break off count as failed.
        """
        if not self._is_warm:
            self._chats(load)
            self._is_warm = True
        rates: list[float] = []
        waits: list[float] = []
        failed, began = 0, time.perf_counter()
        while (not rates and not failed) or time.perf_counter() - began < seconds:
            reads = self._chats(load)
            failed += load.concurrency - len(reads)
            if not reads:
                continue
            rates.append(rate(reads))
            if load.concurrency == 1:
                waits += [read.first_s for read in reads]
            else:
                waits += [gap for read in reads for gap in read.gaps_s]
        p50, p90, p99 = (percentile(sorted(waits), share) * 1e3 for share in (0.5, 0.9, 0.99))
        answered = round(100 * statistics.median(rates)) if rates else 0
        sent = len(rates) * load.concurrency + failed
        return Measurement(answered, failed, 100.0, sent, p50, p90, p99)

    def settle(self, load: Load) -> int:
        """A stream that was read to its end leaves nothing to do."""
        return 0

    def _chats(self, load: Load) -> list[streams.Read]:
        """All the load's streams; none if one was refused or broke off."""
        port = urlsplit(self.targets[Workload.SMOLLM2].url).port
        assert port is not None
        asked = streams.chats(
            port, load.workload, streams=load.concurrency, tokens=TOKENS, endless=ENDLESS
        )
        try:
            return asyncio.run(asked)
        except* streams.StreamFailedError:
            pass
        return []


def rate(reads: Sequence[streams.Read]) -> float:
    """Tokens a second while all streams write, as Forebay's are counted.

    Where there is no such time, as they are written one after the other, it is that of all from the
    first request to the last token.
    """
    if max(read.came[0] for read in reads) < min(read.came[-1] for read in reads):
        return streams.steady(reads)
    took = max(read.came[-1] for read in reads) - min(read.sent for read in reads)
    return sum(read.tokens for read in reads) / took
