"""What is said between a tuning and the processes that try its candidates: JSON, one a line."""

import msgspec

from forebay.contract.model import ModelSpec


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """Load a model and get it warm. The first order; answered by `Ready`.

    Attributes:
        spec: the candidate.
        home: holds its artifact.
        traffic: file of the rows to run.
    """

    spec: ModelSpec
    home: str
    traffic: str


class Saturate(msgspec.Struct, frozen=True, tag="saturate"):
    """Run as many rows as can be; answered by `Stretch`.

    Attributes:
        lead_s: what is run for so long first does not count.
        seconds: for how long then, and for a few passes at least.
        seed: of the rows' order.
    """

    lead_s: float
    seconds: float
    seed: int


class Arrive(msgspec.Struct, frozen=True, tag="arrive"):
    """Run rows that come at random, one by one, whether or not those before them are done.

    Answered by `Stretch`.

    Attributes:
        rate: rows a second, on average.
        seconds: for how long they come.
        seed: of the rows' order and of their times.
    """

    rate: float
    seconds: float
    seed: int


Order = Setup | Saturate | Arrive


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """A model is warm.

    Attributes:
        version: of its artifact.
        streams: passes it runs at once.
        start_ms: from the process's first line until it was warm, libraries included.
        shortest: length of the shortest row of the traffic, as the backend counts.
        longest: of the longest.
        memory_bytes: that the process holds.
    """

    version: str
    streams: int
    start_ms: float
    shortest: int
    longest: int
    memory_bytes: int


class Stretch(msgspec.Struct, frozen=True, tag="stretch"):
    """What came of an order.

    Attributes:
        seconds: that count.
        rows: that were done in them.
        passes: that did these.
        arrived: rows that came; of `Saturate` those that were done.
        latencies_ms: of rows that came and were done, from arrival until the end of their pass.
        unfinished: rows that came and were given up, long after the last had come.
        memory_bytes: the most that the process ever held.
    """

    seconds: float
    rows: int
    passes: int
    arrived: int
    latencies_ms: tuple[float, ...]
    unfinished: int
    memory_bytes: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It can't be done, as told; the process ends."""

    message: str


Answer = Ready | Stretch | Failed
