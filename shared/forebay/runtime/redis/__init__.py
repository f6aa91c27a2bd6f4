"""Redis clients as Forebay uses them, and the watch over whether the server is within reach.

redis-py retries commands and times out blocking ones by default; both are wrong here. A repeated
write must be a decision (the scripts are idempotent, so the caller may), and a blocking read has
a time of its own. Replies stay raw: the scripts' stubs know their shape.

    urls       what a URL says: a server, sentinels that know where it is, nodes of a cluster
    pools      connections to it: after a failover, to its successor
    cluster    which node holds a key, and how a command gets there
    client     commands from many tasks, each on a connection of the pool
    channel    commands of one task, on one connection
    scripts    one atomic operation each, loaded where they are missing
    copied     writes that count only once a replica has them
    refusals   what a server says that can't serve just now
    times      what time it is on the server
    link       whether the server is within reach, and what time it is there
"""

from forebay.runtime.redis.channel import Channel
from forebay.runtime.redis.client import (
    MAX_COMMANDS,
    Commands,
    check_url,
    connect,
    connect_blocking,
)
from forebay.runtime.redis.copied import CopiedWrites, NotCopiedError
from forebay.runtime.redis.link import Link
from forebay.runtime.redis.refusals import NotServingError
from forebay.runtime.redis.scripts import Arg, Script
from forebay.runtime.redis.times import now_ms
from forebay.runtime.redis.urls import mask

__all__ = [
    "MAX_COMMANDS",
    "Arg",
    "Channel",
    "Commands",
    "CopiedWrites",
    "Link",
    "NotCopiedError",
    "NotServingError",
    "Script",
    "check_url",
    "connect",
    "connect_blocking",
    "mask",
    "now_ms",
]
