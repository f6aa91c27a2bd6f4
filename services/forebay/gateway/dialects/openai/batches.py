"""`POST` and `GET /v1/batches`, `GET /v1/batches/{id}`, `POST /v1/batches/{id}/cancel`."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from forebay.contract.batches import Batch, BatchRequest, BatchStatus, Fault
from forebay.gateway.batching import Batching
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.openai.queries import limit_of, query_of
from forebay.gateway.http import Answer, Call, to_json

MOST_LISTED: Final = 100
USUAL_LISTED: Final = 20


class ExpiresAfter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the files of answers are wanted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3_600, le=2_592_000)]


class CreateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/batches`, as OpenAI documents it."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16),
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None


class Error(msgspec.Struct, frozen=True):
    """What is wrong with a batch's file."""

    code: str
    message: str
    param: str | None
    line: int | None


class Errors(msgspec.Struct, frozen=True):
    """All that is."""

    data: list[Error]
    object: str = "list"


class RequestCounts(msgspec.Struct, frozen=True):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class InputDetails(msgspec.Struct, frozen=True):
    """Tokens of requests that were not computed again."""

    cached_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """Tokens of answers that were only thought: there are none here."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the requests that have an answer."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as this API shows it; times are Unix times in seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: Errors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: Usage
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, frozen=True):
    """A page of batches."""

    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


_QUERY: Final = ("after", "limit")

_create = msgspec.json.Decoder(CreateRequest)


class BatchEndpoints:
    """Makes batches and shows them.

    Args:
        batching: knows them.
    """

    def __init__(self, batching: Batching) -> None:
        self._batching = batching

    async def create(self, call: Call) -> Answer:
        """Make one.

        Raises:
            ForebayError: by kind, why not.
        """
        asked = decode(_create, call.body)
        after = asked.output_expires_after
        batch = await self._batching.create(
            BatchRequest(
                asked.endpoint,
                asked.input_file_id,
                asked.completion_window,
                asked.metadata or {},
                None if after is None else float(after.seconds),
            )
        )
        return _shown(batch)

    async def list(self, call: Call) -> Answer:
        """A page of them, the newest first.

        Raises:
            InvalidInput: the query is wrong.
            Unavailable: Redis is out of reach.
        """
        query = query_of(call, _QUERY)
        page = await self._batching.page(
            limit=limit_of(query, usual=USUAL_LISTED, most=MOST_LISTED),
            after=query.get("after"),
        )
        shown = [object_of(batch) for batch in page.batches]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return Answer(to_json(BatchList(shown, first, last, page.more)))

    async def get(self, call: Call) -> Answer:
        """Show one.

        Raises:
            NotFound: there is none of that id, or no longer.
            Unavailable: Redis is out of reach.
        """
        return _shown(await self._batching.get(call.path_param("id")))

    async def cancel(self, call: Call) -> Answer:
        """Have one cancelled, and show it.

        Raises:
            NotFound: there is none of that id, or no longer.
            InvalidInput: it has ended, or nearly.
            Unavailable: Redis is out of reach.
        """
        return _shown(await self._batching.cancel(call.path_param("id")))


def object_of(batch: Batch) -> BatchObject:
    """A batch as this API shows it."""

    def since(status: BatchStatus) -> int | None:
        at = batch.since.get(status)
        return None if at is None else int(at)

    request, counts, usage = batch.request, batch.counts, batch.usage
    return BatchObject(
        id=batch.id,
        endpoint=request.endpoint,
        errors=Errors([_error(fault) for fault in batch.faults]) if batch.faults else None,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=int(batch.created_at),
        in_progress_at=since(BatchStatus.IN_PROGRESS),
        expires_at=int(batch.expires_at),
        finalizing_at=since(BatchStatus.FINALIZING),
        completed_at=since(BatchStatus.COMPLETED),
        failed_at=since(BatchStatus.FAILED),
        expired_at=since(BatchStatus.EXPIRED),
        cancelling_at=since(BatchStatus.CANCELLING),
        cancelled_at=since(BatchStatus.CANCELLED),
        request_counts=RequestCounts(counts.total, counts.completed, counts.failed),
        usage=Usage(
            usage.input, InputDetails(usage.cached), usage.output, OutputDetails(), usage.total
        ),
        metadata=request.metadata or None,
    )


def _shown(batch: Batch) -> Answer:
    return Answer(to_json(object_of(batch)))


def _error(fault: Fault) -> Error:
    return Error(fault.code, fault.message, fault.param, fault.line)
