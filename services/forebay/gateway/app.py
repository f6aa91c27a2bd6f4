"""Composition root of the gateway: builds the parts, starts and stops them, serves.

Everything is built here and passed down; nothing is global. What runs beside the requests: the
watch over Redis, the inbox and the writer. They start before the first request and stop after the
last, the writer first, so that what was taken is still written.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from forebay.contract.errors import ConfigurationError
from forebay.gateway.dialects import cohere, oip, openai, replicate
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import NoSuchRoute, fault_of
from forebay.gateway.health import Health
from forebay.gateway.http import Exchange, render_problem, respond
from forebay.gateway.reads import Reads
from forebay.gateway.repeats import Repeats
from forebay.gateway.repository import Repository
from forebay.gateway.serving import listen, run
from forebay.gateway.shadows import Shadows, bounded
from forebay.gateway.split import Split
from forebay.gateway.versions import StoredVersions, Versions
from forebay.lanes.cancel import Canceler
from forebay.lanes.claims import Claims
from forebay.lanes.keys import Keys
from forebay.lanes.lane import LaneWriter
from forebay.lanes.records import Records
from forebay.lanes.replies import Inbox
from forebay.lanes.shadows import Shadows as Books
from forebay.lanes.traffic import Traffic
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Channel, Link, connect, connect_blocking
from forebay.runtime.settings import Durability, Settings
from forebay.storage.artifacts import ArtifactStore

if TYPE_CHECKING:
    from forebay.gateway.dialects.oip.rpc.server import RpcServer

log = logging.getLogger(__name__)

RESTART_S = 1.0
"""Pause before a part that has crashed is started again."""


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
        rpc: what listens for gRPC, if anything does; started by the lifespan.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        missing: "Missing",
        lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]],
        dispatch: Dispatch,
        rpc: "RpcServer | None" = None,
    ) -> None:
        super().__init__(routes=routes, lifespan=lifespan)
        self.router.redirect_slashes = False
        self.router.default = missing
        self.dispatch = dispatch
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


def create_app(settings: Settings, catalog: Catalog, *, versions: Versions | None = None) -> App:
    """Build a gateway. It connects when its lifespan starts.

    Args:
        settings: `redis_url` must be set.
        catalog: the models to offer.
        versions: tells which artifacts serve; by default this machine's artifact store.

    Raises:
        ConfigurationError: there is no Redis URL, or it can't be understood; or gRPC is wanted and
            not installed.
    """
    if not settings.redis_url:
        raise ConfigurationError("The gateway needs a Redis: set FOREBAY_REDIS_URL or redis_url.")
    redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    blocking = connect_blocking(settings.redis_url, timeout_s=settings.redis_timeout_s)
    keys = Keys(settings.key_prefix)
    clock = Clock()
    link = Link(redis, clock)
    records = Records(redis, keys)
    writes = Channel(blocking, timeout_s=settings.redis_timeout_s, link=link)
    replicated = writes if settings.durability is Durability.REPLICATED else None
    writer = LaneWriter(writes, keys, catalog.served, link, replicated=replicated)
    channel = keys.reply_channel(secrets.token_hex(8))
    inbox = Inbox(blocking, channel, records=records, link=link, clock=clock)
    canceler = Canceler(redis, keys, clock)
    reads = Reads(link)
    split = Split(catalog, Traffic(redis), keys, link)
    # Not through the channel of writes: there requests would wait behind copies.
    copies = LaneWriter(redis, keys, bounded(catalog), link)
    shadows = Shadows(
        catalog,
        split,
        copies,
        books=Books(redis),
        keys=keys,
        link=link,
        clock=clock,
        kept_ms=int(settings.unseen_retention_s * 1000),
    )
    dispatch = Dispatch(
        settings=settings,
        catalog=catalog,
        versions=versions or StoredVersions(ArtifactStore(settings.home)),
        writer=writer,
        inbox=inbox,
        records=records,
        canceler=canceler,
        repeats=Repeats(Claims(redis, keys), records, reads),
        reads=reads,
        clock=clock,
        split=split,
        shadows=shadows,
    )
    exchange = Exchange(max_body_bytes=settings.max_body_bytes)
    health = Health(
        models=catalog.served, redis=redis, keys=keys, link=link, inbox=inbox, clock=clock
    )

    repository = Repository(redis, keys, reads, clock)
    open_inference = oip.OpenInference(dispatch, repository, lambda: health.is_ready)

    rpc = None
    if settings.grpc_port:
        rpc = open_inference.rpc_server(
            exchange, host=settings.host, port=settings.grpc_port, drain_s=settings.drain_s
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as stack:
            # Unwound from the end: the writer stops first, the connections close last.
            stack.push_async_callback(blocking.aclose)
            stack.push_async_callback(writes.aclose)
            stack.push_async_callback(redis.aclose)
            for name, run in (
                ("link", link.run),
                ("inbox", inbox.run),
                ("canceler", canceler.run),
                ("writer", writer.run),
            ):
                await stack.enter_async_context(_running(name, run))
            if split:
                await split.look()
                await stack.enter_async_context(_running("split", split.run))
            if shadows:
                await stack.enter_async_context(_running("copies", copies.run))
                await stack.enter_async_context(_running("shadows", shadows.run))
            if rpc is not None:
                await rpc.start()
                stack.push_async_callback(rpc.aclose)
            yield

    return App(
        [
            *openai.routes(dispatch, exchange),
            *cohere.routes(dispatch, exchange),
            *replicate.routes(dispatch, exchange),
            *open_inference.routes(exchange),
            *health.routes(exchange),
        ],
        missing=Missing(exchange),
        lifespan=lifespan,
        dispatch=dispatch,
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
    if settings.grpc_port:
        # gRPC opens its own, and can't say well why not.
        listen(settings.host, settings.grpc_port, setting="grpc_port").close()
    run(
        app,
        listener or listen(settings.host, settings.port),
        drain_s=settings.drain_s,
        abandon=app.dispatch.abandon,
        drain=app.drain,
    )


@contextlib.asynccontextmanager
async def _running(name: str, run: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Keep a part running until the block ends, through bugs of its own."""

    async def keep() -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("the gateway's %s has crashed and starts again", name)
                await asyncio.sleep(RESTART_S)

    task = asyncio.create_task(keep(), name=f"gateway-{name}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
