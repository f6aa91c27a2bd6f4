"""Lets a request in, by its API key, or says why not."""

from collections.abc import Iterable
from typing import Final

from forebay.gateway.access.allowances import Allowance, Allowances, Header
from forebay.gateway.access.keyring import Keyring
from forebay.gateway.access.visitor import current
from forebay.gateway.errors import Unauthenticated
from forebay.records.api_keys import Token
from forebay.runtime.clock import Clock

SCHEMES: Final = (b"bearer ", b"token ")
"""Of `Authorization`: what most clients send, and what Replicate's does."""

BARE: Final = frozenset({b"x-api-key", b"api-key"})
"""Headers that hold a key alone."""

HOW: Final = (
    "Send it as `Authorization: Bearer fb_…`, or in `X-API-Key`; `forebay keys create` makes one."
)


class Visit:
    """A request that was let in, until it is answered.

    Args:
        allowance: what it is taken off, if its key has limits.
    """

    def __init__(self, allowance: Allowance | None) -> None:
        self._allowance = allowance

    def headers(self) -> tuple[Header, ...]:
        """What its client is told of what is left."""
        return () if self._allowance is None else self._allowance.headers()

    def leave(self) -> None:
        """It is answered."""
        if self._allowance is not None:
            self._allowance.leave()


class Door:
    """Asks for API keys.

    Args:
        keyring: knows them.
        allowances: know what they may still ask for.
        clock: the server's clock.
    """

    def __init__(self, keyring: Keyring, allowances: Allowances, clock: Clock) -> None:
        self._keyring = keyring
        self._allowances = allowances
        self._clock = clock

    async def admit(self, headers: Iterable[Header]) -> Visit:
        """Let a request in; its key is `visitor.current` from then on.

        Args:
            headers: names in small letters.

        Raises:
            Unauthenticated: there is no key, or it is unknown, revoked or expired.
            RateLimited: it has asked for as much as it may.
            Unavailable: that can't be told, as Redis is out of reach.
        """
        sent = sent_key(headers)
        if not sent:
            raise Unauthenticated(f"This takes an API key. {HOW}")
        token = Token.parse(sent)
        if token is None:
            raise Unauthenticated(f"What was sent is no API key of Forebay's. {HOW}")
        key = await self._keyring.find(token.id)
        now_ms = self._clock.now_ms()
        # One answer for both, so that nobody learns which ids there are.
        if key is None or not key.takes(token.digest, now_ms):
            raise Unauthenticated(f"There is no such API key. {HOW}")
        state = key.state(now_ms)
        if state != "active":
            raise Unauthenticated(f"This API key is {state}. Whoever made it can make another.")
        allowance = await self._allowances.take(key)
        current.set(key)
        return Visit(allowance)


def sent_key(headers: Iterable[Header]) -> bytes:
    """The key that a request brings; empty if it brings none."""
    for name, value in headers:
        if name == b"authorization":
            lower = value[:7].lower()
            for scheme in SCHEMES:
                if lower.startswith(scheme):
                    return value[len(scheme) :].strip()
            return value.strip()
        if name in BARE:
            return value.strip()
    return b""
