"""What an installation of some rate takes: a load model, no measurement.

Every process is taken to work so many microseconds for a request, as `make bench` measures them,
and to be busy for a share of its time. What is left out is said in docs/scaling.md.
"""

import math
from dataclasses import dataclass
from typing import Final

HOUR_S: Final = 3600
GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Costs:
    """What one request takes; the defaults are MiniLM's in docs/benchmarks.md.

    Attributes:
        gateway_us: CPU time of a gateway for a request that is enqueued, microseconds.
        hit_us: likewise for one that the response cache answers.
        redis_us: time of a Redis shard's one thread for a row, in and out.
        row_us: CPU time of a worker for a row.
        kept_bytes: what a result takes in Redis until it is forgotten.
        kept_s: for how long that is.
        queued_bytes: what a row that waits takes.
        wait_s: how long rows wait.
    """

    gateway_us: float = 243.0
    hit_us: float = 80.0
    redis_us: float = 67.0
    row_us: float = 1468.0
    kept_bytes: float = 2500.0
    kept_s: float = 60.0
    queued_bytes: float = 394.0
    wait_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is run, and what that costs.

    Attributes:
        hits: share of requests that the response cache answers, 0 to 1.
        busy: share of its time that a process may be busy; the rest is for what comes unevenly.
        copies: of each Redis shard, the primary among them.
        core_price: of a core and an hour.
        gib_price: of a GiB of a Redis server's memory and an hour.
    """

    hits: float = 0.0
    busy: float = 0.6
    copies: int = 3
    core_price: float = 0.04
    gib_price: float = 0.005


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a rate takes.

    Attributes:
        rate: requests a second.
        gateways: processes, each on a core.
        shards: primaries of Redis, each with a thread on a core.
        redis_gib: memory of all primaries.
        worker_cores: cores that run the model.
        price: of all of it, an hour.
    """

    rate: float
    gateways: int
    shards: int
    redis_gib: float
    worker_cores: int
    price: float

    @property
    def per_million(self) -> float:
        """Price of a million requests."""
        return self.price / (self.rate * HOUR_S) * 1e6


def shard_rate(costs: Costs, terms: Terms) -> float:
    """Rows a second of one Redis shard; the most of one model, too, as its lanes are on one."""
    return terms.busy * 1e6 / costs.redis_us


def capacity(rate: float, costs: Costs, terms: Terms) -> Capacity:
    """What a rate takes.

    Args:
        rate: requests a second, more than 0.
        costs: what one takes.
        terms: how it is run.
    """
    rows = rate * (1 - terms.hits)

    def needed(us_a_second: float) -> int:
        return max(1, math.ceil(us_a_second / 1e6 / terms.busy))

    gateways = needed(rows * costs.gateway_us + rate * terms.hits * costs.hit_us)
    shards = needed(rows * costs.redis_us)
    workers = needed(rows * costs.row_us)
    held = rows * (costs.kept_bytes * costs.kept_s + costs.queued_bytes * costs.wait_s)
    gib = held / GIB
    price = (
        gateways + workers + shards * terms.copies
    ) * terms.core_price + gib * terms.copies * terms.gib_price
    return Capacity(rate, gateways, shards, gib, workers, price)
