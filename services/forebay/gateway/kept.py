"""Predictions that were made, for those who come back for them: read, cancelled, deleted."""

from collections.abc import Sequence

import msgspec

from forebay.contract.errors import NotFound
from forebay.contract.prediction import Prediction, PredictionId
from forebay.gateway.access import visitor
from forebay.gateway.reads import Reads
from forebay.gateway.repeats import Repeats
from forebay.lanes.cancel import Canceler
from forebay.lanes.predictions import Records


class Kept:
    """Finds them by their ids, ours or a client's own; another API key's are not there.

    Args:
        records: predictions as they were stored.
        canceler: ends those that nobody wants any more.
        repeats: knows ids of clients' own.
        reads: how to ask Redis outside the hot path.
    """

    def __init__(
        self, records: Records, canceler: Canceler, repeats: Repeats, reads: Reads
    ) -> None:
        self._records = records
        self._canceler = canceler
        self._repeats = repeats
        self._reads = reads

    async def prediction(self, text: str) -> Prediction:
        """A prediction by its id.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        id_ = await self.meant(text)
        try:
            prediction = await self._reads.run(lambda: self._records.prediction(id_))
        except LookupError:
            prediction = None
        if prediction is None:
            raise none_such(text)
        return msgspec.structs.replace(prediction, id=text)

    async def cancel(self, text: str) -> Prediction:
        """Cancel a prediction; one that has ended already stays as it is.

        Returns:
            The prediction as it is then.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach; nothing is known to have been canceled.
        """
        id_ = await self.meant(text)
        await self._reads.run(lambda: self._canceler.cancel(id_))
        return await self.prediction(text)

    async def forget(self, text: str) -> None:
        """Delete a prediction; what it is doing is canceled.

        Raises:
            NotFound: it has never been.
            Unavailable: Redis is out of reach; what was deleted is not known.
        """
        id_ = await self.meant(text)
        await self._reads.run(lambda: self._canceler.cancel(id_))
        await self._reads.run(lambda: self._records.forget(id_))

    async def discard(self, texts: Sequence[str]) -> None:
        """Delete predictions that have ended; others stay.

        Raises:
            NotFound: a text is no id; nothing was deleted.
            Unavailable: Redis is out of reach; what was deleted is not known.
        """
        ids = [PredictionId.parse(text) for text in texts]
        for id_ in ids:
            if not visitor.may_see(id_):
                raise none_such(id_.text)
        await self._reads.run(lambda: self._records.discard(ids))

    async def meant(self, text: str) -> PredictionId:
        """The prediction that an id means, ours or a client's.

        Raises:
            NotFound: there is none, or it is another's.
        """
        try:
            id_ = PredictionId.parse(text)
        except NotFound:
            id_ = await self._repeats.resolve(text)
        if not visitor.may_see(id_):
            raise none_such(text)
        return id_


def none_such(text: str) -> NotFound:
    """What is told of a prediction that is not there, or is another's."""
    return NotFound(f"There is no prediction {text!r}, or no longer.")
