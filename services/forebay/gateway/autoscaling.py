"""`GET /autoscale/{model}`: how many replicas there should be, for whatever starts them.

KEDA's `metrics-api` scaler reads it (https://keda.sh/docs/latest/scalers/metrics-api/). The number
is the autoscaler's, which tells it in Redis; a gateway decides nothing.
"""

import msgspec
from starlette.routing import Route

from forebay.contract.errors import Unavailable
from forebay.contract.model import ModelSpec
from forebay.gateway.access import visitor
from forebay.gateway.http import Answer, Call, Exchange, render_problem, to_json
from forebay.gateway.paths import routes_of
from forebay.gateway.reads import Reads
from forebay.lanes import scaling
from forebay.lanes.depth import Depth, depth
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands


class Demand(msgspec.Struct, frozen=True):
    """Rows on the lanes of a model, waiting and leased."""

    rows: int
    realtime: int
    bulk: int


class Wanted(msgspec.Struct, frozen=True):
    """How many replicas there should be, and are.

    Attributes:
        desired: as the autoscaler tells; what always is where it doesn't look after the model.
        ready: present on the lanes.
        min: there always are.
        max: there may be.
    """

    desired: int
    ready: int
    min: int
    max: int


class Scaling(msgspec.Struct, frozen=True):
    """Body of `/autoscale/{model}`.

    Attributes:
        model: asked for.
        demand: what is to be done.
        drain_s: until that is worked off by those that are ready; null if not known.
        replicas: how many.
        why: what the desired ones are for.
    """

    model: str
    demand: Demand
    drain_s: float | None
    replicas: Wanted
    why: str


def autoscale_routes(
    exchange: Exchange, catalog: Catalog, redis: Commands, keys: Keys, *, reads: Reads, clock: Clock
) -> list[Route]:
    """Where it is asked. Where API keys are asked for it takes one with `admin` or `dashboard`.

    Args:
        exchange: what endpoints share.
        catalog: the models.
        redis: client with a timeout.
        keys: key builder.
        reads: asks Redis.
        clock: the server's clock.
    """

    async def scaled(call: Call) -> Answer:
        visitor.check_watching()
        spec = catalog.find(call.path_param("model"))
        of = keys.of(spec.name)
        found = await reads.run(lambda: depth(redis, of, now_ms=clock.now_ms()))
        told = await reads.run(lambda: scaling.told(redis, of))
        return Answer(to_json(_scaling(spec, found, told)))

    return routes_of(
        exchange, {"/autoscale/{model}": {"GET": scaled}}, render=render_problem, dialect="none"
    )


def _scaling(spec: ModelSpec, found: Depth, told: scaling.Wanted | None) -> Scaling:
    bounds, rows = spec.replicas, found.realtime + found.bulk
    if told is None and not bounds.is_fixed:
        raise Unavailable(
            f"Nobody tells how many replicas {spec.name} should have: run `forebay autoscale run`."
        )
    desired, why = (bounds.min, "the least there may be")
    if told is not None:
        desired, why = told.replicas, told.why
    drain_s = rows / found.rate if found.rate > 0 else None
    return Scaling(
        spec.name,
        Demand(rows, found.realtime, found.bulk),
        0.0 if not rows else drain_s,
        Wanted(desired, found.replicas, bounds.min, bounds.most),
        why,
    )
