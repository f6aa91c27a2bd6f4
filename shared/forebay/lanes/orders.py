"""Orders to one worker: load a model, unload a model. Each is answered, with an error or without.

    who gives it ──RPUSH orders:WORKER──▶ worker ──SET answer:ORDER──▶ who gave it

An order that nobody waits for any more is not carried out; one that was sent to a worker which is
gone lapses with its list.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import (
    DeadlineExceeded,
    ErrorKind,
    ForebayError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from forebay.contract.workers import Order, OrderAnswer, Verb
from forebay.lanes.keys import Keys
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

ANSWER_KEPT_MS = 60_000

BLOCK_S = 2.0
"""Longest wait for an order in one command."""

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.25
"""Between looks for an answer."""

RETRY_S = 0.5
"""Pause after Redis failed a command."""

_order = msgspec.json.Decoder(Order)
_answer = msgspec.json.Decoder(OrderAnswer)

_RAISED: dict[ErrorKind | None, type[ForebayError]] = {
    ErrorKind.NOT_FOUND: NotFound,
    ErrorKind.INVALID_INPUT: InvalidInput,
}


async def give(
    redis: Commands,
    keys: Keys,
    worker: str,
    verb: Verb,
    model: str,
    *,
    now_ms: int,
    within_s: float,
) -> None:
    """Have a worker do something, and wait until it is done.

    Args:
        redis: client with a timeout.
        keys: key builder.
        worker: which is present.
        verb: what to do.
        model: with which model of its set.
        now_ms: the server's time.
        within_s: how long to wait, seconds.

    Raises:
        ForebayError: the worker could not, and says why: by kind, as it raised it.
        DeadlineExceeded: there was no answer in time. It may still be doing it.
        redis.exceptions.RedisError: Redis is out of reach.
    """
    within_ms = int(within_s * 1000)
    order = Order(secrets.token_hex(10), verb, model, now_ms + within_ms)
    orders, answer = keys.orders(worker), keys.answer(order.id)
    await redis.execute_command("RPUSH", orders, msgspec.json.encode(order))
    await redis.execute_command("PEXPIRE", orders, within_ms)
    pause_s = FIRST_PAUSE_S
    try:
        async with asyncio.timeout(within_s):
            while (told := await redis.execute_command("GET", answer)) is None:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    except TimeoutError:
        raise DeadlineExceeded(
            f"Worker {worker} did not {verb} {model!r} within {within_s:g} s. It may still do so: "
            "`forebay workers list` tells."
        ) from None
    answered = _answer.decode(told)
    if answered.error:
        raise _RAISED.get(answered.kind, Unavailable)(answered.error)


class Orders:
    """What one worker is told to do.

    Args:
        redis: a connection of its own, whose answers may take `BLOCK_S` longer.
        upkeep: another, for answers.
        keys: key builder.
        worker: its name.
        clock: the server's.
        obey: carries one out.
    """

    def __init__(
        self,
        redis: Commands,
        upkeep: Commands,
        keys: Keys,
        worker: str,
        *,
        clock: Clock,
        obey: Callable[[Order], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._upkeep = upkeep
        self._keys = keys
        self._orders = keys.orders(worker)
        self._clock = clock
        self._obey = obey

    async def run(self) -> None:
        """Take orders until cancelled; several may be under way at once."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    told = await self._redis.execute_command("BLPOP", self._orders, BLOCK_S)
                except (RedisError, OSError) as error:
                    log.debug("waiting for orders is interrupted: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                if told is not None:
                    group.create_task(self._carry_out(told[1]), name="order")

    async def _carry_out(self, raw: bytes) -> None:
        try:
            order = _order.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("an order can't be read: %s", error)
            return
        left_s = (order.until_ms - self._clock.now_ms()) / 1000
        if left_s <= 0:
            log.info("nobody waits any more for %s to be done with %s", order.verb, order.model)
            return
        answer = OrderAnswer()
        try:
            async with asyncio.timeout(left_s):
                await self._obey(order)
        except ForebayError as error:
            answer = OrderAnswer(error.message, error.kind)
        except TimeoutError:
            return  # and nobody waits for an answer
        except Exception:
            log.exception("an order to %s %s failed", order.verb, order.model)
            answer = OrderAnswer("The worker could not. Its log says why.", ErrorKind.INTERNAL)
        try:
            await self._upkeep.execute_command(
                "SET", self._keys.answer(order.id), msgspec.json.encode(answer),
                "PX", ANSWER_KEPT_MS,
            )  # fmt: skip
        except (RedisError, OSError) as error:
            log.warning("an order to %s %s can't be answered: %s", order.verb, order.model, error)
