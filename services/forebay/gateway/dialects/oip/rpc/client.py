"""What a call's metadata says of its client, under the names that HTTP's headers have."""

from collections.abc import Iterator
from typing import Any

import grpc

from forebay.gateway.access import visitor
from forebay.gateway.cache_control import CACHE_STATUS_HEADER
from forebay.gateway.http import Header
from forebay.gateway.split import STICKY_HEADER


def headers_of(context: "grpc.aio.ServicerContext[Any, Any]") -> Iterator[Header]:
    """A call's metadata, as HTTP's headers are."""
    for key, value in context.invocation_metadata() or ():
        text = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        yield key.encode("latin-1", "replace"), text


class Client:
    """The client of one request.

    Args:
        context: of the call.

    Attributes:
        headers: what it is to be told behind the answer.
    """

    def __init__(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self._context = context
        self.headers: tuple[Header, ...] = ()

    def sticky(self) -> str:
        """What it gives for its requests to stay with one version; empty if nothing."""
        return self._said(STICKY_HEADER.decode())

    def cache_control(self) -> str:
        """What it says of caching; empty if nothing."""
        return self._said("cache-control")

    def caller(self) -> bytes:
        """Its API key's id; where keys are not asked for what it sends as one, if anything."""
        return visitor.owner().encode() or self._said("authorization").encode("latin-1", "replace")

    def behalf(self) -> bytes:
        """What it takes its turn as where a lane is full."""
        return self.caller()

    def traceparent(self) -> bytes:
        """The span that it is made in (W3C Trace Context); empty if it tells of none."""
        return self._said("traceparent").encode("latin-1", "replace")

    def tracestate(self) -> bytes:
        """What goes with that."""
        return self._said("tracestate").encode("latin-1", "replace")

    def tell_cache(self, status: str) -> None:
        """Say in `cache-status` what the cache has done."""
        self.headers = ((CACHE_STATUS_HEADER, status.encode()),)

    def _said(self, name: str) -> str:
        for key, value in self._context.invocation_metadata() or ():
            if key == name:
                return value.decode("latin-1") if isinstance(value, bytes) else value
        return ""
