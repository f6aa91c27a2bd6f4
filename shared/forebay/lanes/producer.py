"""What a process needs that puts predictions on lanes and waits for what becomes of them.

The other end is `consumer`. A gateway has one, and so has a worker of a pipeline, for its steps.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from forebay.contract.model import ModelSpec
from forebay.lanes.cache import Lookups
from forebay.lanes.cancel import Canceler
from forebay.lanes.keys import Keys
from forebay.lanes.lane import LaneWriter
from forebay.lanes.predictions import Records
from forebay.lanes.replies import Inbox
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Channel, Link, connect, connect_blocking
from forebay.runtime.settings import Durability, Settings

log = logging.getLogger(__name__)

RESTART_S = 1.0
"""Pause before a part that has crashed is started again."""


class Producer:
    """One process's end of all lanes: the way in, the way out, and what watches over both.

    Args:
        settings: `redis_url` must be set.
        models: specs by name, for the lanes' bounds.

    Attributes:
        redis: client whose commands are not retried.
        keys: key builder.
        clock: the server's.
        link: whether Redis is within reach.
        records: predictions as they were stored.
        writer: the way in.
        inbox: the way out, with a reply channel of its own.
        canceler: ends what nobody wants any more.
        lookups: finds what was answered before; runs where somebody asks it.

    Raises:
        ConfigurationError: the Redis URL can't be understood.
    """

    def __init__(self, settings: Settings, models: Mapping[str, ModelSpec]) -> None:
        timeout_s = settings.redis_timeout_s
        self.redis = connect(settings.redis_url, timeout_s=timeout_s)
        self._blocking = connect_blocking(settings.redis_url, timeout_s=timeout_s)
        self.keys = Keys(settings.key_prefix)
        self.clock = Clock()
        self.link = Link(self.redis, self.clock)
        self.records = Records(self.redis, self.keys)
        self._writes = Channel(self._blocking, timeout_s=timeout_s, link=self.link)
        replicated = self._writes if settings.durability is Durability.REPLICATED else None
        self.writer = LaneWriter(self._writes, self.keys, models, self.link, replicated=replicated)
        self.inbox = Inbox(
            self._blocking,
            self.keys.reply_channel(secrets.token_hex(8)),
            records=self.records,
            link=self.link,
            clock=self.clock,
        )
        self.canceler = Canceler(self.redis, self.keys, self.clock)
        self._lookups = Channel(self._blocking, timeout_s=timeout_s, link=self.link)
        self.lookups = Lookups(self._lookups, self.keys, self.link)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Work until the block ends, then write what was taken and hang up."""
        async with contextlib.AsyncExitStack() as stack:
            # Unwound from the end: the writer stops first, the connections close last.
            stack.push_async_callback(self._blocking.aclose)
            stack.push_async_callback(self._writes.aclose)
            stack.push_async_callback(self._lookups.aclose)
            stack.push_async_callback(self.redis.aclose)
            for name, run in (
                ("link", self.link.run),
                ("inbox", self.inbox.run),
                ("canceler", self.canceler.run),
                ("writer", self.writer.run),
            ):
                await stack.enter_async_context(kept_going(name, run))
            yield


@contextlib.asynccontextmanager
async def kept_going(name: str, run: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Keep a part running until the block ends, through bugs of its own."""

    async def keep() -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("the %s has crashed and starts again", name)
                await asyncio.sleep(RESTART_S)

    task = asyncio.create_task(keep(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
