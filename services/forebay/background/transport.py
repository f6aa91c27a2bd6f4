"""Kombu's Redis transport without acknowledgements: a message is gone once it is read.

Kombu records each message that was read in Redis until it is acknowledged. One that an outage
keeps it from acknowledging counts as still being worked on for ever, and with enough of them it
reads nothing any more, also when Redis is back (kombu 5.7). The schedule repeats every message of
ours anyway.
"""

from typing import Final

from kombu.transport import TRANSPORT_ALIASES, redis

SCHEME: Final = "forebay-redis"
"""Of a broker URL for this transport: no other app's `redis://` is touched."""


SENTINEL_SCHEME: Final = "forebay-sentinel"


class Channel(redis.Channel):
    """Acknowledges in memory only, and puts nothing back."""

    ack_emulation = False
    do_restore = False


class Transport(redis.Transport):
    """Kombu's Redis transport with that channel."""

    Channel = Channel


class SentinelChannel(redis.SentinelChannel):
    """The same on the primary that sentinels name."""

    ack_emulation = False
    do_restore = False


class SentinelTransport(redis.SentinelTransport):
    """Kombu's Sentinel transport with that channel."""

    Channel = SentinelChannel


TRANSPORT_ALIASES[SENTINEL_SCHEME] = f"{__name__}:{SentinelTransport.__qualname__}"
TRANSPORT_ALIASES[SCHEME] = f"{__name__}:{Transport.__qualname__}"
