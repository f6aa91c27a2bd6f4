"""The calls that one row of a pipeline makes: cut into parts, each with an id of its own.

A part's id is made of the prediction and row that call, the step, what is asked of it, and how
often that very thing was asked before. So code that is run again after a crash finds what it asked
for the first time, whatever the order in which its calls were made; what it asks otherwise this
time is new.
"""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from forebay.contract.errors import ForebayError, StepFailed
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import MAX_PART_ROWS, Lane, PredictionId, StepTime, added_up
from forebay.contract.rows import Options, Output, Row
from forebay.inference.steps.caller import Answer, Sending
from forebay.lanes.lane import Submission
from forebay.lanes.parts import identity_of, parts_of


class Origin(msgspec.Struct, frozen=True):
    """The row that calls.

    Attributes:
        prediction: id of the pipeline's prediction.
        row: its index in there.
        lane: it came by; its steps' rows go by the same.
        deadline_at_ms: Unix time in ms, by the server's clock.
        traceparent: W3C trace context, if the request is sampled.
    """

    prediction: str
    row: int
    lane: Lane
    deadline_at_ms: int
    traceparent: str | None = None


Ask = Callable[[Sequence[Sending]], Awaitable[list[Answer]]]
"""Sends the parts of one call and waits for their answers, in order."""

Which = Callable[[ModelSpec, str], Awaitable[ModelSpec]]
"""Which version of a model a key goes to: the same one as long as shares stand."""


class Calls:
    """A row's calls.

    Args:
        origin: the row.
        ask: sends what they come to.
        which: chooses among a model's versions.
        now_ms: the server's time.
        retain_ms: how long a step's result is kept beyond the row's deadline.
    """

    def __init__(
        self,
        origin: Origin,
        ask: Ask,
        *,
        which: Which,
        now_ms: Callable[[], int],
        retain_ms: int,
    ) -> None:
        self._origin = origin
        self._ask = ask
        self._which = which
        self._now_ms = now_ms
        self._retain_ms = retain_ms
        self._asked: Counter[bytes] = Counter()
        self._times: list[StepTime] = []

    @property
    def times(self) -> tuple[StepTime, ...]:
        """What the steps took so far."""
        return added_up(self._times)

    async def call(
        self, spec: ModelSpec, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[Output]:
        """Run rows on a step.

        Args:
            spec: of the step, or of the model whose version it is to be.
            rows: at least one.
            truncate: cut over-long rows.
            options: what is asked of the outputs.

        Raises:
            StepFailed: it failed on one of them, or has no use for them.
        """
        if spec.versions:
            # All calls of a prediction go to the same version, and so do those of its re-run.
            spec = await self._which(spec, self._origin.prediction)
        try:
            sendings = self._sendings(spec, rows, truncate=truncate, options=options)
        except ForebayError as error:
            raise StepFailed(spec.name, error.info()) from error
        answers = await self._ask(sendings)
        self._times.append(_time(spec.name, len(rows), answers))
        return [output for answer in answers for output in answer.outputs]

    def _sendings(
        self, spec: ModelSpec, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[Sending]:
        origin, now_ms = self._origin, self._now_ms()
        limits = spec.realtime if origin.lane is Lane.REALTIME else spec.bulk
        deadline_ms = max(origin.deadline_at_ms - now_ms, 1)
        parts = parts_of(
            rows,
            now_ms=now_ms,
            deadline_ms=deadline_ms,
            truncate=truncate,
            options=options,
            traceparent=origin.traceparent,
            most=min(MAX_PART_ROWS, limits.max_rows or MAX_PART_ROWS),
        )
        sendings: list[Sending] = []
        first = 0
        for part in parts:
            own = rows[first : first + part.rows]
            first += part.rows
            submission = Submission(
                self._id(spec, identity_of(own, truncate=truncate, options=options)),
                origin.lane,
                (part,),
                now_ms,
                deadline_ms,
                # Until the pipeline has ended: should its worker die, the next one looks for it.
                deadline_ms + self._retain_ms,
            )
            sendings.append(Sending(spec.name, submission))
        return sendings

    def _id(self, spec: ModelSpec, identity: bytes) -> PredictionId:
        asked = f"{self._origin.prediction} {self._origin.row} {spec.name} ".encode() + identity
        before = self._asked[asked]
        self._asked[asked] += 1
        return step_id(spec.name, asked + before.to_bytes(8, "big"))


def step_id(model: str, asked: bytes) -> PredictionId:
    """The id of a step's prediction: the same for the same, of 80 bits like any other."""
    digest = hashlib.blake2b(asked, digest_size=10).hexdigest()
    return PredictionId.parse(f"{model}-0-{digest}")


def _time(model: str, rows: int, answers: Sequence[Answer]) -> StepTime:
    timings = [answer.timing for answer in answers if answer.timing is not None]
    return StepTime(
        model,
        1,
        rows,
        max((timing.queue_ms + timing.batch_ms for timing in timings), default=0.0),
        max((timing.compute_ms for timing in timings), default=0.0),
    )
