"""What is asked of a contender, and what a contender is."""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib import request

import msgspec

from tests.bench import open_loop, wrk
from tests.bench.stats import Measurement

LEAD_S = 1
BURST_EVERY_S = 1.0
SETTLING_REQUESTS = 2
SETTLING_TIMEOUT_S = 60.0


class Workload(StrEnum):
    """What is asked for.

    `null` measures nothing but the path; `minilm` embeds texts of mixed length; `smollm2` writes.
    """

    NULL = "null"
    MINILM = "minilm"
    SMOLLM2 = "smollm2"


class Section(StrEnum):
    """A part of the benchmark that can be run by itself.

    `closed`: everybody, so many connections with one request each. `open`: requests come when they
    come. `growth`: few contenders at many concurrencies. `repeated`: texts that were asked before,
    and a cache. `generation`: streams of text. The rest are about Forebay alone: `cold` starts,
    a long `queued` line, a batch and realtime `mixed`, how `fair` a noisy key leaves a quiet one's
    wait, what `tracing` costs; and `jobs`, the bare rate of queues.
    """

    CLOSED = "closed"
    OPEN = "open"
    GROWTH = "growth"
    REPEATED = "repeated"
    GENERATION = "generation"
    COLD = "cold"
    QUEUED = "queued"
    MIXED = "mixed"
    FAIR = "fair"
    TRACING = "tracing"
    JOBS = "jobs"


class Kind(StrEnum):
    """Which texts are sent.

    `mixed`: of mixed length, none twice. `fixed`: of one length, none twice. `zipf`: some often.
    `hits`: one all the time.
    """

    MIXED = "mixed"
    FIXED = "fixed"
    ZIPF = "zipf"
    HITS = "hits"


class Load(msgspec.Struct, frozen=True):
    """One workload, and how it is put on a contender.

    Attributes:
        concurrency: connections with one request each, in a closed loop.
        extra: left out of a quick run.
        among: contenders that take it; all if None.
        open_share: an open loop at this share of what the contender took in the closed loop
            whose share is 1.
        burst: an open loop of so many requests at once, every second.
    """

    workload: Workload
    concurrency: int
    extra: bool = False
    section: Section = Section.CLOSED
    kind: Kind = Kind.MIXED
    among: tuple[str, ...] | None = None
    open_share: float | None = None
    burst: int = 0

    def is_for(self, contender: str) -> bool:
        """Whether it is put on this contender; for those that are named, see `among`."""
        if self.among is None:
            return contender != "forebay-uncached"
        return contender in self.among

    @property
    def name(self) -> str:
        """For example `null-c64`, `minilm-open-80`."""
        if self.open_share is not None:
            return f"{self.workload}-open-{self.open_share * 100:.0f}"
        if self.burst:
            return f"{self.workload}-burst-{self.burst}"
        kind = "" if self.kind is Kind.MIXED else f"-{self.kind}"
        return f"{self.workload}{kind}-c{self.concurrency}"


FEW = ("forebay", "mosec-server", "mosec-sorted")
MOST_KNOWN = ("forebay", "mosec-server", "litserve-server")
CACHED = ("forebay", "forebay-uncached", "mosec-server")
ONLY_CACHED = ("forebay",)
NULL_1 = Load(Workload.NULL, 1)
NULL_16 = Load(Workload.NULL, 16, extra=True)
NULL_64 = Load(Workload.NULL, 64)
MINILM_1 = Load(Workload.MINILM, 1)
MINILM_64 = Load(Workload.MINILM, 64)
FIXED_64 = Load(Workload.MINILM, 64, extra=True, kind=Kind.FIXED, among=(*FEW, "litserve-server"))
OPEN = tuple(
    Load(Workload.MINILM, 64, True, Section.OPEN, among=MOST_KNOWN, open_share=share)
    for share in (1.0, 0.5, 0.8, 0.95)
)
BURSTS = tuple(
    Load(workload, 256, True, Section.OPEN, among=MOST_KNOWN, burst=256)
    for workload in (Workload.NULL, Workload.MINILM)
)
GROWTH = (
    *(Load(Workload.NULL, c, True, Section.GROWTH, among=FEW) for c in (4, 128, 256)),
    *(Load(Workload.MINILM, c, True, Section.GROWTH, among=FEW) for c in (4, 16, 128, 256)),
)
ZIPF_64 = Load(Workload.MINILM, 64, True, Section.REPEATED, Kind.ZIPF, CACHED)
HITS_1 = Load(Workload.MINILM, 1, True, Section.REPEATED, Kind.HITS, ONLY_CACHED)
HITS_64 = Load(Workload.MINILM, 64, True, Section.REPEATED, Kind.HITS, ONLY_CACHED)
SMOLLM2_1 = Load(Workload.SMOLLM2, 1, True, Section.GENERATION)
SMOLLM2_8 = Load(Workload.SMOLLM2, 8, True, Section.GENERATION)
SMOLLM2_32 = Load(Workload.SMOLLM2, 32, True, Section.GENERATION)
LOADS = (
    NULL_1, NULL_16, NULL_64, MINILM_1, MINILM_64, FIXED_64,
    *OPEN, *BURSTS, *GROWTH,
    ZIPF_64, HITS_1, HITS_64,
    SMOLLM2_1, SMOLLM2_8, SMOLLM2_32,
)  # fmt: skip
BY_NAME = {load.name: load for load in LOADS}


class Texts(msgspec.Struct, frozen=True):
    """The texts of one round, the same for every contender.

    Attributes:
        label: names the files made from them.
        folder: where those files go.
    """

    label: str
    texts: tuple[str, ...]
    folder: Path

    def written(self, encoding: str, encode: Callable[[str], bytes]) -> Path:
        """A file with each text encoded on a line of its own, made at the first call."""
        path = self.folder / f"{self.label}.{encoding}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\n".join(encode(text) for text in self.texts) + b"\n")
        return path


class Contender(Protocol):
    """One line of the tables: a system as it is asked in one way, or a bare loop.

    Attributes:
        name: for files and the command line.
        title: for people.
        extra: left out of a quick run.
    """

    name: str
    title: str
    extra: bool

    def takes(self, load: Load) -> bool:
        """Whether it can be put under this load."""
        ...

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Put it under a load, and after a lead-in of `LEAD_S` count for so long."""
        ...

    def settle(self, load: Load) -> int:
        """Wait until it has no work left from a load; gives how many requests that took."""
        ...


class Target(msgspec.Struct, frozen=True):
    """How one workload is sent to one address.

    Attributes:
        encode: the body for one text; the null workload has one body and ignores the text.
        marker: a text that every right answer holds, and no wrong one.
        vector: reads the embedding out of an answer's body.
        least_cosine: how like the bare model's that has to be; None for as like as everybody's.
    """

    url: str
    encode: Callable[[str], bytes]
    marker: str
    headers: Mapping[str, str] = {}
    vector: Callable[[bytes], list[float]] | None = None
    least_cosine: float | None = None

    def ask(self, text: str, *, timeout_s: float) -> bytes:
        """The body of the answer to one text.

        Raises:
            OSError: refused, an error status, or no answer in time.
        """
        headers = {"Content-Type": "application/json", **self.headers}
        asked = request.Request(self.url, self.encode(text), headers)
        with request.urlopen(asked, timeout=timeout_s) as response:
            body: bytes = response.read()
            return body


class HttpContender:
    """A contender that is asked over HTTP.

    Args:
        targets: where each workload goes; a workload without one is not measured.
    """

    def __init__(
        self, name: str, title: str, targets: Mapping[Workload, Target], *, extra: bool = False
    ) -> None:
        self.name = name
        self.title = title
        self.extra = extra
        self.targets = targets
        self._capacity: dict[Workload, float] = {}

    def takes(self, load: Load) -> bool:
        """Whether it has an address for this workload; at c=1 extras show nothing of their own."""
        if load.workload not in self.targets or not load.is_for(self.name):
            return False
        return load.concurrency > 1 or not self.extra

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Run wrk, or for an open loop what sends when requests are due.

        What an open loop sends is a share of what the closed one before it took.
        """
        target = self.targets[load.workload]
        bodies = texts.written(self.name, target.encode)
        if load.burst:
            due = open_loop.bursts(load.burst, BURST_EVERY_S, LEAD_S + seconds)
            return self._open(target, bodies, due)
        if load.open_share is not None and load.open_share < 1:
            rate = load.open_share * self._capacity[load.workload]
            due = open_loop.poisson(max(rate, 1.0), LEAD_S + seconds, seed=texts.label)
            return self._open(target, bodies, due)
        measured = wrk.measure(
            target.url,
            bodies=bodies,
            marker=target.marker,
            headers=target.headers,
            connections=load.concurrency,
            seconds=seconds,
            lead_s=LEAD_S,
        )
        if load.open_share is not None:
            self._capacity[load.workload] = measured.rate
        return measured

    def _open(self, target: Target, bodies: Path, due: Sequence[float]) -> Measurement:
        return open_loop.measure(
            target.url,
            bodies=bodies.read_bytes().splitlines(),
            marker=target.marker,
            headers=target.headers,
            due_s=due,
            lead_s=LEAD_S,
        )

    def settle(self, load: Load) -> int:
        """Ask again until what wrk left unanswered when it hung up is behind us.

        Two requests, one after the other: the first may overtake what is queued, as batches are
        sorted, but the second can't begin before that batch is done.
        """
        target = self.targets[load.workload]
        for _ in range(SETTLING_REQUESTS):
            target.ask("Is there anything left to do?", timeout_s=SETTLING_TIMEOUT_S)
        return SETTLING_REQUESTS


def to_json(value: object) -> bytes:
    """One line of JSON, as a client would send it."""
    return json.dumps(value, ensure_ascii=False).encode()
