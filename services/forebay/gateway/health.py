"""`/health/live`, `/health/ready`, and what is at `/`.

Ready means that a request would be taken and answered: Redis is within reach and the reply
channel is subscribed. A model without a worker doesn't make a gateway unready: scaled to zero is
a way of being ready. What is there is told, for people.
"""

import logging
import os
from collections.abc import Mapping

import msgspec
from redis.exceptions import RedisError
from starlette.routing import Route

from forebay.contract.model import ModelSpec
from forebay.contract.versions import model_of
from forebay.gateway.http import Answer, Call, Exchange, render_problem, to_json
from forebay.gateway.paths import ByMethod, routes_of
from forebay.lanes.depth import Depth, depth
from forebay.lanes.keys import Keys
from forebay.lanes.replies import Inbox
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands, Link

log = logging.getLogger(__name__)


class Demand(msgspec.Struct, frozen=True):
    """Rows waiting and leased, by lane."""

    realtime: int
    bulk: int


class ModelHealth(msgspec.Struct, frozen=True):
    """A model's workers, and what they have before them."""

    replicas: int
    demand: Demand


class Readiness(msgspec.Struct, frozen=True):
    """Body of `/health/ready`.

    Attributes:
        status: `ready`, or `unready` with 503.
        missing: the parts that are not there.
        models: of those that could be asked about.
        pid: of the gateway that has answered; there may be several on this port.
    """

    status: str
    missing: tuple[str, ...]
    models: dict[str, ModelHealth]
    pid: int = msgspec.field(default_factory=os.getpid)


class Health:
    """Answers how this gateway is.

    Args:
        models: those there are, and their versions.
        redis: client with a timeout.
        keys: key builder.
        link: whether Redis is within reach.
        inbox: whether replies arrive.
        clock: the server's clock.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, ModelSpec],
        redis: Commands,
        keys: Keys,
        link: Link,
        inbox: Inbox,
        clock: Clock,
    ) -> None:
        self._models = models
        self._redis = redis
        self._keys = keys
        self._link = link
        self._inbox = inbox
        self._clock = clock

    def routes(self, exchange: Exchange) -> list[Route]:
        """Where it is asked."""
        paths: dict[str, ByMethod] = {
            "/": {"GET": self.front},
            "/health/live": {"GET": self.live},
            "/health/ready": {"GET": self.ready},
        }
        return routes_of(exchange, paths, render=render_problem, dialect="none", public=paths)

    @property
    def is_ready(self) -> bool:
        """Whether requests would be taken and answered."""
        return self._link.up and self._inbox.listening

    async def live(self, call: Call) -> Answer:
        """The event loop turns, or this would not be answered."""
        return Answer(b'{"status":"live"}')

    async def ready(self, call: Call) -> Answer:
        """Whether requests would be taken and answered, and who is there for each model."""
        models = await self._model_health() if self._link.up else {}
        missing: list[str] = []
        if not self._link.up:
            missing.append("redis")
        if not self._inbox.listening:
            missing.append("inbox")
        if missing:
            body = to_json(Readiness("unready", tuple(missing), models))
            return Answer(body, 503, headers=((b"retry-after", b"1"),))
        return Answer(to_json(Readiness("ready", (), models)))

    async def front(self, call: Call) -> Answer:
        """What there is, for who comes by."""
        return Answer(
            to_json(
                {
                    "name": "forebay",
                    "models": sorted(set(map(model_of, self._models))),
                    "endpoints": [
                        "POST /v1/chat/completions",
                        "POST /v1/completions",
                        "POST /v1/responses",
                        "GET /v1/responses/{id}",
                        "POST /v1/embeddings",
                        "POST /v1/rerank",
                        "POST /v1/moderations",
                        "POST /v1/files",
                        "GET /v1/files",
                        "GET /v1/files/{id}/content",
                        "GET /v1/models",
                        "GET /v1/models/{id}",
                        "POST /v1/predictions",
                        "GET /v1/predictions",
                        "GET /v1/predictions/{id}",
                        "GET /v1/predictions/{id}/stream",
                        "GET /v2",
                        "GET /v2/models/{model}",
                        "POST /v2/models/{model}/infer",
                        "GET /autoscale/{model}",
                        "GET /health/live",
                        "GET /health/ready",
                    ],
                    "clients": {
                        "openai": f"{call.base_url}/v1",
                        "cohere": call.base_url,
                        "replicate": f"{call.base_url}/replicate",
                        "tritonclient.http": call.header(b"host").decode("latin-1"),
                    },
                }
            )
        )

    async def _model_health(self) -> dict[str, ModelHealth]:
        found: dict[str, ModelHealth] = {}
        try:
            for name in sorted(self._models):
                told = await self._depth(name)
                found[name] = ModelHealth(told.replicas, Demand(told.realtime, told.bulk))
        except (RedisError, OSError) as error:
            log.warning("asking for the lanes' depth failed: %s", error)
            self._link.suspect(error)
        return found

    async def _depth(self, model: str) -> Depth:
        return await depth(self._redis, self._keys.of(model), now_ms=self._clock.now_ms())
