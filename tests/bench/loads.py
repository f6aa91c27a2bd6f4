"""What is asked of a contender, and what a contender is."""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib import request

import msgspec

from tests.bench import wrk
from tests.bench.stats import Measurement

LEAD_S = 1
SETTLING_REQUESTS = 2
SETTLING_TIMEOUT_S = 60.0


class Workload(StrEnum):
    """What is asked for.

    `null` measures nothing but the path; `minilm` embeds texts of mixed length; `smollm2` writes.
    """

    NULL = "null"
    MINILM = "minilm"
    SMOLLM2 = "smollm2"


class Load(msgspec.Struct, frozen=True):
    """One workload at one concurrency, in a closed loop."""

    workload: Workload
    concurrency: int
    extra: bool = False

    @property
    def name(self) -> str:
        """For example `null-c64`."""
        return f"{self.workload}-c{self.concurrency}"


NULL_1 = Load(Workload.NULL, 1)
NULL_16 = Load(Workload.NULL, 16, extra=True)
NULL_64 = Load(Workload.NULL, 64)
MINILM_1 = Load(Workload.MINILM, 1)
MINILM_64 = Load(Workload.MINILM, 64)
SMOLLM2_1 = Load(Workload.SMOLLM2, 1, extra=True)
SMOLLM2_8 = Load(Workload.SMOLLM2, 8, extra=True)
LOADS = (NULL_1, NULL_16, NULL_64, MINILM_1, MINILM_64, SMOLLM2_1, SMOLLM2_8)


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

    def takes(self, load: Load) -> bool:
        """Whether it has an address for this workload; at c=1 extras show nothing of their own."""
        return load.workload in self.targets and (load.concurrency > 1 or not self.extra)

    def measure(self, load: Load, texts: Texts, seconds: int) -> Measurement:
        """Run wrk against the workload's address."""
        target = self.targets[load.workload]
        return wrk.measure(
            target.url,
            bodies=texts.written(self.name, target.encode),
            marker=target.marker,
            headers=target.headers,
            connections=load.concurrency,
            seconds=seconds,
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
