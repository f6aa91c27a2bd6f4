"""Waiting for what was enqueued, until it is done, the time is over, or nobody waits any more.

A wait costs one future, one timer and two callbacks: no task, no second subscription.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Final

from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId
from forebay.gateway.errors import ClientGone
from forebay.lanes.cancel import Canceler
from forebay.lanes.lane import LaneWriter, Submission
from forebay.lanes.replies import Ear, Inbox, Waiter

WRITE_POLL_S: Final = 0.02
"""How often a wait that has run out looks whether the write is through."""

WhenGone = Callable[[Callable[[], None]], None]
"""Takes what is to be called if the client goes away."""


class Waits:
    """All waits of a gateway.

    Args:
        writer: the way in.
        inbox: the way out.
        canceler: ends what nobody waits for any more.
    """

    def __init__(self, writer: LaneWriter, inbox: Inbox, canceler: Canceler) -> None:
        self._writer = writer
        self._inbox = inbox
        self._canceler = canceler
        self._waiting: set[Waiter] = set()
        self.abandoned = False

    @property
    def channel(self) -> str:
        """Where replies are to be sent."""
        return self._inbox.channel

    async def wait(
        self, submission: Submission, wait_s: float, when_gone: WhenGone | None
    ) -> tuple[Reply, ...]:
        """Enqueue and wait for the replies; none if they don't all come in time.

        Raises:
            ClientGone: there is nobody to be told. What was enqueued is canceled.
            ForebayError: by kind, why it could not be enqueued.
        """
        waiter = self.begin(submission.id, len(submission.parts))
        timer = None
        if when_gone is not None:
            when_gone(functools.partial(self._gone, waiter))
        try:
            self.submit(submission, waiter)
            timer = asyncio.get_running_loop().call_later(wait_s, stop_waiting, waiter)
            return await waiter.future
        finally:
            if timer is not None:
                timer.cancel()
            self.end(waiter)

    def begin(self, id_: PredictionId, parts: int, *, ear: Ear | None = None) -> Waiter:
        """Begin to wait for a prediction that is about to be submitted, or is there already."""
        waiter = self._inbox.expect(id_, parts, ear=ear)
        self._waiting.add(waiter)
        return waiter

    def submit(self, submission: Submission, waiter: Waiter) -> None:
        """Enqueue what is waited for."""
        self._writer.submit(submission, waiter.submitted)

    async def look(self, waiter: Waiter) -> None:
        """Read at once what is recorded of a prediction that is there already.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        await self._inbox.look(waiter)

    def end(self, waiter: Waiter) -> None:
        """Wait no more."""
        self._waiting.discard(waiter)
        self._inbox.forget(waiter)

    def abandon(self) -> None:
        """End all waits, as if their time were over."""
        self.abandoned = True
        for waiter in tuple(self._waiting):
            stop_waiting(waiter)

    def _gone(self, waiter: Waiter) -> None:
        """The client who waits has gone: nobody wants it any more."""
        if waiter.future.done():
            return
        cancel = functools.partial(self._canceler.cancel_soon, waiter.id)
        if waiter.enqueued:
            cancel()
        else:
            waiter.then = cancel  # it may be on its way to Redis at this moment
        waiter.future.set_exception(ClientGone())


def stop_waiting(waiter: Waiter) -> None:
    """End a wait without replies, once it is known that the prediction is on its lane.

    A client must not get the id of a prediction whose write may still fail. Its fate is known
    within the timeout of a Redis command.
    """
    if waiter.future.done():
        return
    if waiter.enqueued:
        waiter.future.set_result(())
    else:
        asyncio.get_running_loop().call_later(WRITE_POLL_S, stop_waiting, waiter)
