"""A prediction as this API shows it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from forebay.contract.prediction import Prediction, Status, StepTime
from forebay.contract.rows import Generated, Output
from forebay.contract.versions import model_of
from forebay.gateway.dialects.replicate.mounts import NATIVE, Mount
from forebay.gateway.dialects.replicate.outputs import output_of, with_urls
from forebay.gateway.http import to_json


class Step(msgspec.Struct, frozen=True):
    """What a pipeline's calls of one step came to; times in seconds, added up over calls."""

    model: str
    calls: int
    rows: int
    queue_time: float
    run_time: float


class Metrics(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds of running it, and from creation to the end; tokens of a text. Empty until then."""

    predict_time: float | None = None
    total_time: float | None = None
    input_token_count: int | None = None
    output_token_count: int | None = None
    steps: tuple[Step, ...] = ()


class Queue(msgspec.Struct, frozen=True):
    """Where a prediction stands that waits, and for how many seconds more, if anybody can tell."""

    rows_ahead: int
    wait_s: float | None


class PredictionBody(msgspec.Struct, frozen=True):
    """A prediction, with the fields that Replicate's clients know; `retry_of` where it is one."""

    id: str
    model: str
    version: str
    status: str
    input: Any
    output: Any
    error: str | None
    metrics: Metrics
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    deadline: datetime
    urls: Mapping[str, str]
    logs: str = ""
    data_removed: bool = False
    queue: Queue | msgspec.UnsetType = msgspec.UNSET
    retry_of: str | msgspec.UnsetType = msgspec.UNSET


def render(
    prediction: Prediction,
    *,
    version: str,
    url: str,
    input_json: Any,
    single: bool,
    streams: bool = False,
    mount: Mount = NATIVE,
    so_far: str | None = None,
) -> bytes:
    """The prediction as JSON.

    Args:
        prediction: as it stands.
        version: the same over its life, and one that may be asked for.
        url: where it can be read.
        input_json: its input.
        single: whether the input was one item, so that the output is no list of them.
        streams: whether it can be read while it is generated.
        mount: where it is shown.
        so_far: the text that it has generated, while it does; where it is told.
    """
    urls = {"get": url, "cancel": f"{url}/cancel"}
    if streams:
        urls["stream"] = f"{url}/stream"
    status = prediction.status
    output: Any = [so_far] if mount.hosted and so_far is not None else so_far
    if status is Status.SUCCEEDED:
        # Where texts are lists, that of one prompt is a list of one piece.
        listed = mount.hosted and any(isinstance(o, Generated) for o in prediction.outputs)
        outputs = with_urls(prediction.outputs, url)
        output = output_of(outputs, input_json, single=single and not listed)
    completed = prediction.completed_at_ms
    timing = prediction.timing
    return to_json(
        PredictionBody(
            id=prediction.id,
            model=mount.name_of(model_of(prediction.model)),
            version=version,
            status="canceled" if status is Status.EXPIRED else status.value,
            input=_object(input_json) if mount.hosted else input_json,
            output=output,
            error=None if prediction.error is None else prediction.error.message,
            metrics=Metrics(
                None if timing is None else timing.compute_ms / 1000,
                None if completed is None else (completed - prediction.created_at_ms) / 1000,
                *_tokens(prediction.outputs),
                tuple(map(_step, prediction.steps)),
            ),
            created_at=_time(prediction.created_at_ms),
            started_at=_time_or_none(prediction.started_at_ms),
            completed_at=_time_or_none(completed),
            deadline=_time(prediction.deadline_at_ms),
            queue=msgspec.UNSET
            if prediction.place is None
            else Queue(prediction.place.rows_ahead, prediction.place.wait_s),
            urls=urls,
            logs=prediction.logs,
            retry_of=msgspec.UNSET if prediction.retry_of is None else prediction.retry_of,
        )
    )


def _tokens(outputs: Sequence[Output]) -> tuple[int | None, int | None]:
    """Tokens of prompts and of what was written, if that is what was done."""
    texts = [output for output in outputs if isinstance(output, Generated)]
    if not texts:
        return None, None
    return sum(text.prompt_tokens for text in texts), sum(text.tokens for text in texts)


def _object(input_json: Any) -> Any:
    """An input that is an object; Replicate's clients take no other."""
    if isinstance(input_json, msgspec.Raw):
        return input_json if bytes(input_json).lstrip().startswith(b"{") else None
    return input_json if isinstance(input_json, dict) else None


def _step(time: StepTime) -> Step:
    return Step(time.model, time.calls, time.rows, time.queue_ms / 1000, time.run_ms / 1000)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _time_or_none(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else _time(at_ms)
