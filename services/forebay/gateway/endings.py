"""What requests come to: of replies, the outputs of all rows, or the error of one.

    replies ─▶ outputs, of the records too ─▶ those that the cache had ─▶ Outcome or Prediction

An `Outcome` is for clients that get no id, a `Prediction` for those that do.
"""

from collections.abc import Sequence

from forebay.contract.errors import DeadlineExceeded, ErrorKind, ForebayError
from forebay.contract.messages import Reply
from forebay.contract.prediction import Prediction, Status, added_up
from forebay.contract.rows import Output
from forebay.gateway.caching import Caching
from forebay.gateway.errors import raised
from forebay.gateway.reads import Reads
from forebay.gateway.streaming import Outcome
from forebay.gateway.work import Request
from forebay.lanes.predictions import Records, combined_timing


class Endings:
    """Makes of replies what clients are given.

    Args:
        records: outputs that were too large for a reply.
        reads: how to ask Redis outside the hot path.
        caching: learns what came of the rows that ran.
    """

    def __init__(self, records: Records, reads: Reads, caching: Caching) -> None:
        self._records = records
        self._reads = reads
        self._caching = caching

    async def outputs(self, replies: tuple[Reply, ...]) -> Sequence[Output]:
        """Outputs of the rows that ran, in order.

        Raises:
            ForebayError: they are gone.
            Unavailable: Redis is out of reach.
        """
        if len(replies) == 1 and replies[0].spilled is None:
            return replies[0].outputs
        try:
            return await self._reads.run(lambda: self._records.outputs(replies))
        except LookupError:
            raise ForebayError(
                "The result was too large to be sent at once, and is gone."
            ) from None

    async def outcome(
        self, request: Request, replies: tuple[Reply, ...], of: str | None
    ) -> Outcome:
        """What a request came to.

        Args:
            request: that was run.
            replies: one for each of its parts.
            of: name of the version that it was given to, where the model has several.

        Raises:
            ForebayError: by kind, why a row did not succeed; `row` is its index.
            Unavailable: Redis is out of reach.
        """
        first = replies[0]
        if not request.kept and request.answered is not None:
            return Outcome(first.outputs, first.version, None, of)  # there is no time to tell of
        if first.status is not Status.SUCCEEDED:
            raise raised(request.placed(first.error))
        outputs = self._learned(request, first, await self.outputs(replies))
        timing = first.timing if len(replies) == 1 else combined_timing(replies)
        return Outcome(outputs, first.version, timing, of)

    async def prediction(self, request: Request, replies: tuple[Reply, ...]) -> Prediction:
        """The prediction of a request: as it ended, or as it begins where there are no replies.

        Raises:
            Unavailable: Redis is out of reach.
        """
        id_, deadline_at_ms = request.id, request.now_ms + request.patience.deadline_ms
        if not replies:
            return Prediction(
                id=id_.text,
                model=id_.model,
                status=Status.STARTING,
                created_at_ms=request.now_ms,
                deadline_at_ms=deadline_at_ms,
            )
        first = replies[0]
        outputs: Sequence[Output] = ()
        status, error = first.status, request.placed(first.error)
        if status is Status.SUCCEEDED:
            try:
                outputs = self._learned(request, first, await self.outputs(replies))
            except ForebayError as lost:
                if lost.kind is not ErrorKind.INTERNAL:
                    raise
                status, error = Status.FAILED, lost.info()
        logs = ""
        if any(reply.logged for reply in replies):
            logs = await self._reads.run(lambda: self._records.logs(id_))
        started = [reply.started_at_ms for reply in replies if reply.started_at_ms is not None]
        return Prediction(
            id=id_.text,
            model=id_.model,
            status=status,
            created_at_ms=request.now_ms,
            deadline_at_ms=deadline_at_ms,
            version=first.version,
            started_at_ms=min(started, default=None),
            completed_at_ms=max(reply.completed_at_ms for reply in replies),
            outputs=tuple(outputs),
            error=error,
            timing=combined_timing(replies),
            steps=first.steps
            if len(replies) == 1
            else added_up([step for reply in replies for step in reply.steps]),
            logs=logs,
        )

    def _learned(self, request: Request, first: Reply, ran: Sequence[Output]) -> Sequence[Output]:
        """Outputs of all rows; the cache learns those of the rows that ran."""
        if request.recalled is None:
            return ran
        return self._caching.learn(
            request.spec, request.recalled, first.version, ran, joined=request.joined
        )


def outcome_of(prediction: Prediction, waited_s: float, of: str | None) -> Outcome:
    """The outcome of a request that came again, from the prediction of the first.

    Raises:
        ForebayError: by kind, why there is none.
    """
    if not prediction.status.terminal:
        raise DeadlineExceeded(f"The prediction was not done within {waited_s:g} s.")
    if prediction.status is not Status.SUCCEEDED:
        raise raised(prediction.error)
    return Outcome(prediction.outputs, prediction.version, prediction.timing, of)
