"""A request to somewhere else, bounded in time and in bytes.

No redirects: where one leads was not asked for, and a receiver that moves can say so to whoever
configured it. No proxies from the environment: a proxy would connect to what it resolves itself.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final, Self

import httpcore2
import msgspec

from forebay.contract.errors import ForebayError
from forebay.egress.connect import CheckedBackend
from forebay.egress.rules import Place, Refused, Rules

AGENT: Final = "forebay"

MAX_CONNECTIONS: Final = 100
"""At once, all hosts together, where nothing else is said."""

KEEP_S: Final = 15.0
"""How long a connection is kept for the next request to the same place."""


class CallFailed(ForebayError):  # noqa: N818 - reads as what happened
    """What was called did not answer, or not as HTTP; the request may have arrived."""


class TooLarge(CallFailed):
    """The answer is larger than it may be."""


class Answer(msgspec.Struct, frozen=True):
    """What came back.

    Attributes:
        status: HTTP's; redirects are answers like any other.
        headers: names in lower case; of repeated ones the last.
        body: whole, or as much of it as was wanted.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300


class Client:
    """Calls out under rules. Enter it, or `aclose` it.

    Args:
        rules: what may be called.
        max_connections: at once, all hosts together.
    """

    def __init__(self, rules: Rules, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self.rules = rules
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=max_connections,
            keepalive_expiry=KEEP_S,
            network_backend=CheckedBackend(rules),
        )

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._pool.aclose()

    async def get(self, url: str, *, within_s: float, max_bytes: int, param: str) -> bytes:
        """What is at a URL.

        Args:
            url: as a client gave it.
            within_s: longest it may take, all of it.
            max_bytes: largest it may be.
            param: the field that holds the URL, for errors.

        Raises:
            Refused: it may not be called.
            CallFailed: it did not answer in time, or with another status than 200.
            TooLarge: there is more of it.
        """
        place = self.rules.place(url, param=param)
        try:
            answer = await self.call(
                "GET", place, within_s=within_s, max_bytes=max_bytes, whole=True
            )
        except Refused as error:
            raise error.of(param) from None
        if answer.status != 200:
            hint = " Redirects are not followed." if 300 <= answer.status < 400 else ""
            raise CallFailed(f"{place.authority} answered with {answer.status}.{hint}", param=param)
        return answer.body

    async def call(
        self,
        method: str,
        place: Place,
        *,
        within_s: float,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        whole: bool = False,
    ) -> Answer:
        """Send a request, once.

        Args:
            method: HTTP's.
            place: where to, as `Rules.place` took it apart.
            within_s: longest it may take, all of it.
            max_bytes: how much of the answer is read.
            headers: beside `Host`, `User-Agent` and the content's length.
            content: the body.
            whole: whether an answer that is larger is an error; else it is cut.

        Raises:
            Refused: the name leads to an address that may not be called. Nothing was sent.
            CallFailed: no answer in time, or none that is HTTP.
            TooLarge: the answer is larger, and was wanted whole.
        """
        sent = {"host": place.authority, "user-agent": AGENT, "accept-encoding": "identity"}
        sent.update({name.lower(): value for name, value in (headers or {}).items()})
        if content is not None:
            sent["content-length"] = str(len(content))
        url = httpcore2.URL(
            scheme=place.scheme.encode(),
            host=place.host.encode(),
            port=place.port,
            target=place.target.encode(),
        )
        try:
            async with asyncio.timeout(within_s), AsyncExitStack() as stack:
                response = await stack.enter_async_context(
                    self._pool.stream(
                        method,
                        url,
                        headers=[(name.encode(), value.encode()) for name, value in sent.items()],
                        content=content,
                    )
                )
                body = await _read(response, max_bytes, whole=whole, of=place)
        except TimeoutError:
            raise CallFailed(f"{place.authority} did not answer within {within_s:g} s.") from None
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
            raise CallFailed(f"{place.authority} can't be reached: {_said(error)}.") from error
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            raise CallFailed(f"{place.authority} doesn't speak HTTP: {_said(error)}.") from error
        received = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        return Answer(response.status, received, body)


async def _read(response: httpcore2.Response, max_bytes: int, *, whole: bool, of: Place) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    async for part in response.aiter_stream():
        if len(part) > left:
            if whole:
                raise TooLarge(f"What {of.authority} answers is larger than {max_bytes} bytes.")
            parts.append(part[:left])
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _said(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
