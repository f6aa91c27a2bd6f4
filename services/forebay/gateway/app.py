"""Composition root of the gateway: builds the parts, starts and stops them, serves.

Everything is built here and passed down; nothing is global. What runs beside the requests is the
gateway's end of the lanes: it starts before the first request and stops after the last, so that
what was taken is still written.
"""

import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from forebay.contract.errors import ConfigurationError
from forebay.contract.prediction import Lane
from forebay.egress.rules import Rules
from forebay.gateway.access import visitor
from forebay.gateway.access.allowances import Allowances
from forebay.gateway.access.door import Door
from forebay.gateway.access.keyring import Keyring
from forebay.gateway.autoscaling import autoscale_routes
from forebay.gateway.batching import Batching
from forebay.gateway.caching import Caching
from forebay.gateway.dialects import cohere, oip, openai, replicate
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import NoSuchRoute, fault_of
from forebay.gateway.fetching import Fetcher
from forebay.gateway.filing import Filing
from forebay.gateway.health import Health
from forebay.gateway.http import Exchange, render_problem, respond
from forebay.gateway.listings import Listings
from forebay.gateway.metered import Meter
from forebay.gateway.metrics import metrics_routes
from forebay.gateway.reads import Reads
from forebay.gateway.registry import Registry
from forebay.gateway.repeats import Repeats
from forebay.gateway.repository import Repository
from forebay.gateway.semantic import Semantic
from forebay.gateway.serving import listen, run
from forebay.gateway.shadows import Shadows, bounded
from forebay.gateway.split import Split
from forebay.gateway.versions import StoredVersions, Versions
from forebay.lanes.cache import Cache
from forebay.lanes.claims import Claims
from forebay.lanes.events import Events
from forebay.lanes.lane import LaneWriter
from forebay.lanes.listing import Listing
from forebay.lanes.producer import Producer, kept_going
from forebay.lanes.prompts import Prompts
from forebay.lanes.readers import Readers
from forebay.lanes.shadows import Shadows as Books
from forebay.lanes.traffic import Traffic
from forebay.records.api_keys import ApiKeys
from forebay.records.batches import Batches
from forebay.records.signing import SecretStore
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Auth, Settings
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.file_records import files_of

if TYPE_CHECKING:
    from forebay.gateway.dialects.oip.rpc.server import RpcServer


class App(Starlette):
    """Starlette with a short cut for paths without parameters.

    Such a path is found by one look-up, instead of by matching every route behind middleware that
    has nothing to do: the endpoints answer for their own errors. That saves a quarter of a
    request's CPU (decision 0003).

    Args:
        routes: endpoints, by path.
        missing: answers on every other path.
        lifespan: starts and stops what runs beside the requests.
        dispatch: told when a drain has no time left.
        fetcher: fetches what inputs name by its address.
        rpc: what listens for gRPC, if anything does; started by the lifespan.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        missing: "Missing",
        lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]],
        dispatch: Dispatch,
        fetcher: Fetcher,
        rpc: "RpcServer | None" = None,
    ) -> None:
        super().__init__(routes=routes, lifespan=lifespan)
        self.router.redirect_slashes = False
        self.router.default = missing
        self.dispatch = dispatch
        self.fetcher = fetcher
        self.rpc = rpc
        self._direct = {route.path: route.app for route in routes if not route.param_convertors}

    def drain(self) -> None:
        """Take no new requests where the HTTP server doesn't see to it."""
        if self.rpc is not None:
            self.rpc.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "http":
            endpoint = self._direct.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class Missing:
    """Answers where nothing is, in the dialect that the path belongs to.

    Args:
        exchange: what endpoints share.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 404."""
        if scope["type"] != "http":
            raise RuntimeError(f"nothing here speaks {scope['type']}")
        path: str = scope["path"]
        if path.startswith(tuple(f"{mount}/predictions" for mount in replicate.MOUNTS)):
            render = replicate.render_fault
        elif path.startswith("/v1/"):
            render = openai.render_fault
        elif path.startswith(f"{oip.MOUNT}/"):
            render = oip.render_fault
        else:
            render = render_problem
        request_id = self._exchange.ids.next()
        await respond(send, render(fault_of(NoSuchRoute(path)), request_id), request_id)


def create_app(
    settings: Settings,
    catalog: Catalog,
    *,
    versions: Versions | None = None,
    lane: Lane = Lane.REALTIME,
) -> App:
    """Build a gateway. It connects when its lifespan starts.

    Args:
        settings: `redis_url` must be set.
        catalog: the models to offer.
        versions: tells which artifacts serve; by default this machine's artifact store.
        lane: where requests queue that don't say.

    Raises:
        ConfigurationError: there is no Redis URL, or it can't be understood; or gRPC is wanted and
            not installed; or files can't be kept where they are to be.
    """
    if not settings.redis_url:
        raise ConfigurationError("The gateway needs a Redis: set FOREBAY_REDIS_URL or redis_url.")
    lanes = Producer(settings, catalog.served)
    reads = Reads(lanes.link)
    split = Split(catalog, Traffic(lanes.redis), lanes.keys, lanes.link)
    # Not through the channel of writes: there requests would wait behind copies.
    copies = LaneWriter(lanes.redis, lanes.keys, bounded(catalog), lanes.link)
    shadows = Shadows(
        catalog,
        split,
        copies,
        books=Books(lanes.redis),
        keys=lanes.keys,
        link=lanes.link,
        clock=lanes.clock,
        kept_ms=int(settings.unseen_retention_s * 1000),
    )
    repository = Repository(lanes.redis, lanes.keys, reads, lanes.clock)
    versions = versions or StoredVersions(ArtifactStore(settings.home))
    prompts = Prompts(lanes.redis, lanes.keys)
    semantic = Semantic(catalog, prompts=prompts, link=lanes.link)
    caching = Caching(
        catalog,
        versions,
        lookups=lanes.lookups,
        cache=Cache(lanes.redis, lanes.keys),
        semantic=semantic,
        link=lanes.link,
        clock=lanes.clock,
    )
    readers = Readers(lanes.redis, lanes.keys, lanes.link, lease_s=settings.lease_s)
    meter = Meter(Path(settings.counts_dir) if settings.counts_dir else None)
    dispatch = Dispatch(
        settings=settings,
        registry=Registry(catalog, versions, split),
        writer=lanes.writer,
        inbox=lanes.inbox,
        records=lanes.records,
        events=Events(lanes.redis, lanes.keys),
        readers=readers,
        canceler=lanes.canceler,
        repeats=Repeats(Claims(lanes.redis, lanes.keys), lanes.records, reads),
        reads=reads,
        clock=lanes.clock,
        shadows=shadows,
        caching=caching,
        semantic=semantic,
        repository=repository,
        lane=lane,
        meter=meter,
    )
    semantic.embeds_by(dispatch.run)
    listings = Listings(Listing(lanes.redis, lanes.keys), lanes.records, reads, catalog.served)
    rules = Rules(settings.egress_allowed, loopback=settings.egress_loopback)
    files = files_of(settings)
    filing = Filing(files, max_bytes=settings.max_file_bytes)
    fetcher = Fetcher(rules, filing, max_bytes=settings.max_body_bytes)
    api_keys = ApiKeys(lanes.redis, lanes.keys)
    keyring, allowances = Keyring(api_keys, reads), Allowances(api_keys, reads)
    door = Door(keyring, allowances, lanes.clock) if settings.auth is Auth.KEYS else None
    exchange = Exchange(max_body_bytes=settings.max_body_bytes, door=door, meter=meter)
    batches = Batches(lanes.redis, lanes.keys, retention_s=settings.file_retention_s)
    batching = Batching(batches, files, reads)
    health = Health(
        models=catalog.served,
        redis=lanes.redis,
        keys=lanes.keys,
        link=lanes.link,
        inbox=lanes.inbox,
        clock=lanes.clock,
    )

    secrets = SecretStore(lanes.redis, lanes.keys)

    async def secret() -> str:
        visitor.check_admin()  # whoever has it can sign what others receive
        return (await reads.run(secrets.read)).current

    open_inference = oip.OpenInference(dispatch, repository, lambda: health.is_ready)

    rpc = None
    if settings.grpc_port:
        rpc = open_inference.rpc_server(
            exchange,
            host=settings.host,
            port=settings.grpc_port,
            reuse_port=settings.reuse_port,
            drain_s=settings.drain_s,
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(meter.close)
            await stack.enter_async_context(lanes.running())
            await stack.enter_async_context(kept_going("repository", repository.run))
            await stack.enter_async_context(kept_going("readers", readers.run))
            if door is not None:
                await stack.enter_async_context(kept_going("keyring", keyring.run))
                await stack.enter_async_context(kept_going("allowances", allowances.run))
            if split:
                await split.look()
                await stack.enter_async_context(kept_going("split", split.run))
            if shadows:
                await stack.enter_async_context(kept_going("copies", copies.run))
                await stack.enter_async_context(kept_going("shadows", shadows.run))
            if caching:
                await stack.enter_async_context(kept_going("lookups", lanes.lookups.run))
                await stack.enter_async_context(kept_going("caching", caching.run))
            if semantic:
                await stack.enter_async_context(kept_going("semantic", semantic.run))
            if rpc is not None:
                await rpc.start()
                stack.push_async_callback(rpc.aclose)
            stack.push_async_callback(fetcher.aclose)
            stack.push_async_callback(filing.aclose)
            yield

    return App(
        [
            *openai.routes(dispatch, exchange, filing, batching),
            *cohere.routes(dispatch, exchange),
            *replicate.routes(dispatch, exchange, fetcher, listings, filing, rules, secret),
            *open_inference.routes(exchange),
            *health.routes(exchange),
            *metrics_routes(exchange, meter),
            *autoscale_routes(
                exchange, catalog, lanes.redis, lanes.keys, reads=reads, clock=lanes.clock
            ),
        ],
        missing=Missing(exchange),
        lifespan=lifespan,
        dispatch=dispatch,
        fetcher=fetcher,
        rpc=rpc,
    )


def serve(settings: Settings, catalog: Catalog, *, listener: socket.socket | None = None) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain for `settings.drain_s` at most.

    Args:
        settings: where to listen, among others.
        catalog: the models to offer.
        listener: a bound socket to use instead of the settings' host and port.

    Raises:
        ConfigurationError: an address can't be had, or a setting is wrong.
    """
    app = create_app(settings, catalog)
    if settings.grpc_port and not settings.reuse_port:
        # gRPC opens its own, and can't say well why not. (On a port that is shared this one would
        # get connections.)
        listen(settings.host, settings.grpc_port, setting="grpc_port").close()
    run(
        app,
        listener or listen(settings.host, settings.port, reuse_port=settings.reuse_port),
        drain_s=settings.drain_s,
        abandon=app.dispatch.abandon,
        drain=app.drain,
    )
