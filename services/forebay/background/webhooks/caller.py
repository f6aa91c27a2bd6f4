"""Calls a receiver once: signs what is sent, and says what the answer means."""

import datetime
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
from standardwebhooks import Webhook

from forebay.background.webhooks.traced import call_span
from forebay.contract.errors import ForebayError
from forebay.contract.notices import Attempt, DeliveryState
from forebay.egress.client import Answer, Client
from forebay.egress.rules import Refused
from forebay.records.deliveries import Sending
from forebay.records.signing import SecretStore

ANSWER_BYTES: Final = 512
"""Of an answer's body that are kept."""

LOCATION_CHARS: Final = 256
"""Of where a redirect leads that are kept."""

GONE: Final = 410

REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))

MOST_REDIRECTED: Final = 3
"""Attempts that end so until a delivery has failed: a receiver that has moved stays so."""


class Called(msgspec.Struct, frozen=True):
    """What came of a call.

    Attributes:
        state: of the delivery; `waiting` where it may be tried again.
        attempt: for its record.
        alive: whether the receiver's host answers as one that works; None where it was not called.
        retry_after_s: when the receiver asks to be called again, if it does.
    """

    state: DeliveryState
    attempt: Attempt
    alive: bool | None
    retry_after_s: float | None = None


class Caller:
    """Calls receivers.

    Args:
        secrets: what to sign with.
        client: calls out.
        timeout_s: how long a receiver may take.
    """

    def __init__(self, secrets: SecretStore, client: Client, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._secrets = secrets
        self._client = client

    async def call(self, sending: Sending) -> Called:
        """Send a delivery.

        Raises:
            redis.exceptions.RedisError: the secrets are out of reach. Nothing was sent.
        """
        at_ms, began = int(time.time() * 1000), time.monotonic()

        def attempt(status: int = 0, error: str = "", answer: bytes = b"") -> Attempt:
            took_ms = int((time.monotonic() - began) * 1000)
            return Attempt(at_ms, took_ms, status, error, answer.decode("utf-8", "replace"))

        span = call_span(sending)
        try:
            answer = await self._sent(sending, {} if span is None else span.headers)
        except Refused as error:
            return Called(DeliveryState.REFUSED, attempt(error=error.message), None)
        except ForebayError as error:
            if span is not None:
                span.end(0, error.message)
            return Called(DeliveryState.WAITING, attempt(error=error.message), alive=False)
        if span is not None:
            span.end(answer.status)
        state = DeliveryState.WAITING
        if answer.ok:
            state = DeliveryState.DELIVERED
        elif answer.status == GONE:
            state = DeliveryState.DISABLED
        elif answer.status in REDIRECTS and sending.failures + 1 >= MOST_REDIRECTED:
            state = DeliveryState.FAILED
        return Called(
            state,
            attempt(answer.status, _fault(answer), answer.body[:ANSWER_BYTES]),
            alive=answer.status < 500,
            retry_after_s=retry_after_s(answer, time.time()),
        )

    async def _sent(self, sending: Sending, headers: Mapping[str, str]) -> Answer:
        """Send it, signed with every secret that is valid, with these headers beside its own.

        Raises:
            Refused: its receiver may not be called.
            CallFailed: it did not answer.
        """
        place = self._client.rules.place(sending.url, param="webhook")
        now = datetime.datetime.now(datetime.UTC)
        valid = (await self._secrets.of(sending.url)).valid(int(now.timestamp() * 1000))
        body = sending.body.decode()
        return await self._client.call(
            "POST",
            place,
            within_s=self.timeout_s,
            max_bytes=ANSWER_BYTES,
            headers={
                **headers,
                "content-type": sending.content_type,
                "webhook-id": sending.id,
                "webhook-timestamp": str(math.floor(now.timestamp())),
                "webhook-signature": " ".join(
                    Webhook(secret).sign(sending.id, now, body) for secret in valid
                ),
            },
            content=sending.body,
        )


def _fault(answer: Answer) -> str:
    """What is wrong with an answer, where its status does not say."""
    if answer.status not in REDIRECTS:
        return ""
    where = answer.headers.get("location", "")[:LOCATION_CHARS]
    return f"Redirects are not followed{f': {where}' if where else ''}."


def retry_after_s(answer: Answer, now: float) -> float | None:
    """When a receiver asks to be called again, in seconds from now (RFC 9110, 10.2.3).

    Args:
        answer: its own.
        now: Unix time, seconds.
    """
    told = answer.headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        return max(parsedate_to_datetime(told).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None
