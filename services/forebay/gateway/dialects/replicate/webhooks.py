"""`GET /v1/webhooks/default/secret`: what receivers check signatures with."""

from collections.abc import Awaitable, Callable

import msgspec

from forebay.gateway.http import Answer, Call, to_json

Secret = Callable[[], Awaitable[str]]
"""Reads the current secret."""


class Key(msgspec.Struct, frozen=True):
    """The secret, as Replicate's clients know it."""

    key: str


class Webhooks:
    """Tells the secret.

    Args:
        secret: reads it.
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def secret(self, call: Call) -> Answer:
        """Tell it; the first to ask has it made.

        Raises:
            Unavailable: Redis is out of reach.
        """
        return Answer(to_json(Key(await self._secret())))
