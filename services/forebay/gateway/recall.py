"""What the cache has for one request, and who asks."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec

from forebay.contract.caching import CacheKeys
from forebay.contract.errors import ErrorInfo, ErrorKind, ForebayError
from forebay.contract.hits import Hits, encode_hits
from forebay.contract.messages import Reply, encode
from forebay.contract.rows import Row
from forebay.gateway import cache_control
from forebay.gateway.errors import RequestFault


class Asker(Protocol):
    """Who a request comes from, as far as caching and turns on a full lane go."""

    def cache_control(self) -> str:
        """What the client says in `Cache-Control`; empty if nothing."""
        ...

    def caller(self) -> bytes:
        """What tells the client from others: the API key as it sends it; empty if none."""
        ...

    def behalf(self) -> bytes:
        """Who takes a turn on a full lane: `caller`, or whom somebody inside asks for."""
        ...

    def tell_cache(self, status: str) -> None:
        """Say in `Cache-Status` what the cache has done; the last word counts."""
        ...


class NotCached(RequestFault):
    """The client wants a cached answer or none, and there is none."""

    kind = ErrorKind.NOT_FOUND
    status = HTTPStatus.GATEWAY_TIMEOUT

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}, and `Cache-Control: only-if-cached` says not to run it: send it without.",
            param="cache-control",
        )


class Recall(msgspec.Struct, frozen=True):
    """What the cache has for a request.

    Attributes:
        rows: those that it has nothing for, in order.
        scope: digest of who shares the answers; None where nobody does.
        keys: where those rows' outputs are to be kept; None if they are not.
        hits: what it has; None if nothing.
        reply: the whole reply, where it has all of it.
        why: why the others run, as `Cache-Status` has it.
        asker: is told what the cache has done.
    """

    rows: Sequence[Row]
    scope: bytes | None
    keys: CacheKeys | None
    hits: Hits | None
    reply: Reply | None
    why: str
    asker: Asker | None

    @property
    def ran_whole(self) -> bool:
        """Whether all rows run: only then can a shadow's answers be compared with theirs."""
        return self.hits is None and self.reply is None

    @property
    def packed(self) -> bytes:
        """What it has, as the prediction's record keeps it."""
        if self.reply is not None:
            return encode(self.reply)
        return b"" if self.hits is None else encode_hits(self.hits)

    def placed(self, info: ErrorInfo | None) -> ErrorInfo | None:
        """An error of a row that ran, by the row's index in the request."""
        return info if info is None or self.hits is None else self.hits.placed(info)

    def place(self, error: ForebayError) -> None:
        """Likewise for an error that was raised before anything ran."""
        if self.hits is not None:
            placed = self.hits.placed(error.info())
            error.row, error.message = placed.row, placed.message

    def tell(self, *, stored: bool = False, collapsed: bool = False) -> None:
        """Tell the client that rows were run; see `cache_control.forwarded`."""
        if self.asker is None:
            return
        hits = self.hits
        detail = "" if hits is None else f"{len(hits.at)} of {hits.rows} cached"
        self.asker.tell_cache(
            cache_control.forwarded(self.why, stored=stored, collapsed=collapsed, detail=detail)
        )


def not_cached(asker: Asker | None, why: str = "Not all of this is in the cache") -> NotCached:
    """The error for a client that wants a cached answer or none.

    Args:
        asker: the client; it is told.
        why: there is none, without an end.
    """
    if asker is not None:
        asker.tell_cache(cache_control.not_cached())
    return NotCached(why)
