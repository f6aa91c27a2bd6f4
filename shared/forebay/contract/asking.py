"""What is asked of a gateway by other ways than HTTP: the port between it and the background.

Neither knows the other: `services/forebay/gateway/inside.py` answers, whoever composes a process
hands it over, and what takes work from batch files, Celery or brokers asks.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from forebay.contract.errors import ErrorInfo
from forebay.contract.prediction import Lane, Status


class Answered(msgspec.Struct, frozen=True):
    """What a dialect answered, as its client would see it.

    Attributes:
        status: HTTP's.
        headers: names in lower case; among them `x-request-id`.
        body: whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Predicted(msgspec.Struct, frozen=True):
    """How a prediction ended.

    Attributes:
        id: of the prediction.
        status: terminal.
        output: JSON, as the job API shows it; `null` unless succeeded.
        error: why it has not succeeded.
        version: short digest of the artifact that answered, once one has.
    """

    id: str
    status: Status
    output: bytes
    error: ErrorInfo | None = None
    version: str | None = None


class Asking(Protocol):
    """A gateway to ask. What is asked for twice by the same key runs once, and is told twice.

    But for answers of models whose rows may run for several at once, such as embeddings: they may
    run together with others, and then again where their asker was killed and asks again.
    """

    async def answer(self, path: str, body: bytes, *, key: str, behalf: str = "") -> Answered:
        """Have a dialect answer a POST; never an event stream.

        Args:
            path: such as `/v1/embeddings`.
            body: JSON, as a client would send it.
            key: what the request is known by. The same key is asked for once at a time.
            behalf: whose it is, such as a batch's: where a lane is full they take turns.

        Raises:
            Unavailable: this process stops; ask again.
        """
        ...

    def withdraw(self, key: str) -> None:
        """Cancel what an `answer` is waited for; it says so then. No error if none is."""
        ...

    async def predict(
        self,
        model: str,
        input_json: bytes,
        *,
        key: str,
        lane: Lane = Lane.BULK,
        within_s: float | None = None,
        behalf: str = "",
    ) -> Predicted:
        """Run a model, and wait until that has ended, one way or another.

        Args:
            model: `name` or `name:version`.
            input_json: the model's input, as the job API takes it.
            key: what the request is known by.
            lane: where it queues.
            within_s: end it after so many seconds; None for the lane's own deadline.
            behalf: whose it is, such as a queue's: where a lane is full they take turns.

        Raises:
            InvalidInput: the model doesn't take this. Nothing was enqueued.
            NotFound: there is no such model. Likewise.
            LaneFull: there is no room just now. Likewise: ask again after `retry_after_s`.
            Unavailable: Redis is out of reach. It may have been enqueued: ask again.
        """
        ...

    async def cancel(self, model: str, key: str) -> None:
        """End what is known by a key, if there is such and it has not ended.

        Raises:
            NotFound: there is no such model.
            Unavailable: Redis is out of reach.
        """
        ...

    async def forget(self, *ids: str) -> None:
        """Delete predictions that have ended: their outcomes are in safe hands.

        Raises:
            Unavailable: Redis is out of reach; they go when their time is over.
        """
        ...
