"""The methods of `inference.GRPCInferenceService`.

Each answers or aborts with a status that says why. `ModelStreamInfer` answers each request once, in
their order, several at a time; what goes wrong with one is told in its answer, and the stream goes
on. Methods for shared memory, traces and logs are left out: gRPC says UNIMPLEMENTED for them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from forebay.contract.errors import ForebayError, NotFound
from forebay.contract.model import ModelSpec
from forebay.contract.versions import model_of
from forebay.gateway.access.door import Door
from forebay.gateway.dialects.oip import parameters as parameters_
from forebay.gateway.dialects.oip.description import Description
from forebay.gateway.dialects.oip.inference import Answered, Inference
from forebay.gateway.dialects.oip.parameters import MICROSECONDS, Parameters
from forebay.gateway.dialects.oip.rpc import messages
from forebay.gateway.dialects.oip.rpc.client import Client, headers_of
from forebay.gateway.dialects.oip.rpc.faults import code_of, metadata_of
from forebay.gateway.dialects.oip.rpc.tensors import (
    inputs_of,
    parameters_of,
    response_of,
    wanted_of,
)
from forebay.gateway.dialects.oip.rpc.wire import open_inference_pb2 as pb
from forebay.gateway.dialects.oip.statistics import Statistics
from forebay.gateway.errors import Fault, fault_of, unexpected
from forebay.gateway.http import RequestIds, told
from forebay.gateway.names import Name, fingerprint, key_of
from forebay.gateway.traced import RpcSpan
from forebay.gateway.waits import WhenGone
from forebay.runtime.tracing import active

log = logging.getLogger(__name__)

SERVICE: Final = "inference.GRPCInferenceService"

STREAMED: Final = 32
"""Requests of one stream under way at once; the next is read when the first is answered."""

T = TypeVar("T")
Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for type checkers only
Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Service:
    """Answers over gRPC.

    Args:
        inference: runs inferences.
        description: says what there is.
        statistics: says what came of inferences.
        ids: of requests.
        door: asks for API keys, if any are asked for.
    """

    def __init__(
        self,
        inference: Inference,
        description: Description,
        statistics: Statistics,
        ids: RequestIds,
        door: Door | None = None,
    ) -> None:
        self._door = door
        self._inference = inference
        self._description = description
        self._statistics = statistics
        self._ids = ids
        self._left: set[asyncio.Future[Any]] = set()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server needs to serve it."""
        methods: dict[str, Method] = {
            "ServerLive": self._unary(pb.ServerLiveRequest, self._server_live, public=True),
            "ServerReady": self._unary(pb.ServerReadyRequest, self._server_ready, public=True),
            "ModelReady": self._unary(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._unary(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": self._unary(pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": self._unary(pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": self._unary(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": self._unary(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": self._unary(pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": self._unary(pb.RepositoryModelUnloadRequest, self._unload),
            "ModelInfer": self._unary(pb.ModelInferRequest, self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self._stream_infer,
                request_deserializer=pb.ModelInferRequest.FromString,
                response_serializer=pb.ModelStreamInferResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _unary(
        self,
        request_type: type[Request],
        answer: Callable[[Request, Context, str], Awaitable[Response]],
        *,
        public: bool = False,
    ) -> Method:
        """A method with one request and one answer; a public one takes no API key."""
        door = None if public else self._door

        async def answered(request: Request, context: Context) -> Response:
            request_id = self._ids.next()
            context.set_trailing_metadata(metadata_of((), request_id))
            try:
                async with _let_in(door, context):
                    return await answer(request, context, request_id)
            except Exception as error:
                fault = _fault(error, request_id)
            # It raises, as its type says.
            return await context.abort(
                code_of(fault), fault.message, metadata_of(fault.headers, request_id)
            )

        return grpc.unary_unary_rpc_method_handler(
            answered,
            request_deserializer=request_type.FromString,
            response_serializer=_serialize,
        )

    async def _server_live(
        self, request: pb.ServerLiveRequest, context: Context, request_id: str
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(
        self, request: pb.ServerReadyRequest, context: Context, request_id: str
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._description.ready())

    async def _model_ready(
        self, request: pb.ModelReadyRequest, context: Context, request_id: str
    ) -> pb.ModelReadyResponse:
        try:
            spec = self._inference.model(request.name, request.version)
        except NotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=await self._description.model_ready(spec))

    async def _server_metadata(
        self, request: pb.ServerMetadataRequest, context: Context, request_id: str
    ) -> pb.ServerMetadataResponse:
        return messages.server(self._description.server())

    async def _model_metadata(
        self, request: pb.ModelMetadataRequest, context: Context, request_id: str
    ) -> pb.ModelMetadataResponse:
        spec = self._inference.model(request.name, request.version)
        return messages.model(self._description.model(spec))

    async def _model_config(
        self, request: pb.ModelConfigRequest, context: Context, request_id: str
    ) -> pb.ModelConfigResponse:
        spec = self._inference.model(request.name, request.version)
        return messages.config(self._description.config(spec))

    async def _model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context, request_id: str
    ) -> pb.ModelStatisticsResponse:
        specs: list[ModelSpec] = self._description.specs()
        if request.name:
            specs = [self._inference.model(request.name, request.version)]
        return messages.stats(
            [
                self._statistics.of(model_of(spec.name), self._description.version(spec))
                for spec in specs
            ]
        )

    async def _index(
        self, request: pb.RepositoryIndexRequest, context: Context, request_id: str
    ) -> pb.RepositoryIndexResponse:
        return messages.index(await self._description.index(ready=request.ready))

    async def _load(
        self, request: pb.RepositoryModelLoadRequest, context: Context, request_id: str
    ) -> pb.RepositoryModelLoadResponse:
        await self._description.load(request.model_name, parameters=bool(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context, request_id: str
    ) -> pb.RepositoryModelUnloadResponse:
        await self._description.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _infer(
        self, request: pb.ModelInferRequest, context: Context, request_id: str
    ) -> pb.ModelInferResponse:
        client = Client(context)
        response, answered = await self._answer(request, context, client)
        headers = (*told(answered.timing, answered.of), *client.headers)
        context.set_trailing_metadata(metadata_of(headers, request_id))
        return response

    async def _stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer the requests of a stream, each once, in their order."""
        answers: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(
            STREAMED
        )
        under_way: set[asyncio.Task[Any]] = set()

        async def take() -> None:
            try:
                async for request in requests:
                    task = asyncio.create_task(self._streamed(request, context))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await answers.put(task)
            except Exception:
                log.info("a stream has ended in something that is no request", exc_info=True)
            await answers.put(None)

        taking = asyncio.create_task(take())
        try:
            while (task := await answers.get()) is not None:
                yield await task
        finally:
            for left in (taking, *under_way):
                left.cancel()

    async def _streamed(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelStreamInferResponse:
        """The answer to one request of a stream, an error included."""
        try:
            async with _let_in(self._door, context):
                response, _ = await self._answer(request, context, Client(context))
        except Exception as error:
            fault = _fault(error, self._ids.next())
            failed = pb.ModelInferResponse(id=request.id)  # so that the client knows which
            return pb.ModelStreamInferResponse(error_message=fault.message, infer_response=failed)
        if parameters_of(request).get("triton_enable_empty_final_response"):
            response.parameters["triton_final_response"].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=response)

    async def _answer(
        self, request: pb.ModelInferRequest, context: Context, client: Client
    ) -> tuple[pb.ModelInferResponse, Answered]:
        """Run an inference, for as long as the client is there and has time."""
        tracing = active()
        sampled = tracing is not None and tracing.sampled(client.traceparent(), client.tracestate())
        if tracing is None or sampled is False:
            return await self._run(request, context, client)
        span = RpcSpan(tracing, sampled, service=SERVICE, method="ModelInfer")
        error: BaseException | None = None
        try:
            return await self._run(request, context, client)
        except BaseException as raised:
            error = raised
            raise
        finally:
            span.end(error)

    async def _run(
        self, request: pb.ModelInferRequest, context: Context, client: Client
    ) -> tuple[pb.ModelInferResponse, Answered]:
        spec = self._inference.model(request.model_name, request.model_version)
        parameters = _within(parameters_.read(parameters_of(request)), context.time_remaining())
        inputs, wanted = inputs_of(request), wanted_of(request)
        name = _name_of(request, context)
        answered = await self._while_there(
            lambda when_gone: self._inference.run(
                spec,
                inputs,
                wanted=wanted,
                parameters=parameters,
                name=name,
                when_gone=when_gone,
                sticky=client.sticky,
                asker=client,
            )
        )
        raw = bool(request.raw_input_contents) or parameters.binary_data_output
        return response_of(answered, id_=request.id, raw=raw), answered

    async def _while_there(self, run: Callable[[WhenGone], Awaitable[T]]) -> T:
        """Run something that wants to be told if the client goes away: gRPC then cancels us."""
        tells: list[Callable[[], None]] = []
        task = asyncio.ensure_future(run(tells.append))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._left.add(task)
            task.add_done_callback(self._forget)
            for tell in tells:
                tell()
            raise

    def _forget(self, task: asyncio.Future[Any]) -> None:
        """Let go of what ran on after its client had gone; nobody is there to hear how it ended."""
        self._left.discard(task)
        if not task.cancelled():
            task.exception()


@contextlib.asynccontextmanager
async def _let_in(door: Door | None, context: Context) -> AsyncGenerator[None]:
    """Let a request in by the API key of its metadata, until it is answered.

    Raises:
        ForebayError: why not.
    """
    if door is None:
        yield
        return
    visit = await door.admit(headers_of(context))
    try:
        yield
    finally:
        visit.leave()


def _fault(error: Exception, request_id: str) -> Fault:
    if isinstance(error, ForebayError):
        return fault_of(error)
    return unexpected(error, request_id)


def _within(parameters: Parameters, remaining_s: float | None) -> Parameters:
    """Parameters with a timeout that is no longer than the client waits."""
    if remaining_s is None:
        return parameters
    remaining = max(1, int(remaining_s * MICROSECONDS))
    timeout = min(parameters.timeout or remaining, remaining)
    return msgspec.structs.replace(parameters, timeout=timeout)


def _name_of(request: pb.ModelInferRequest, context: Context) -> Name | None:
    """What the client calls the request, by `idempotency-key` in its metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == "idempotency-key":
            given = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            body = request.SerializeToString(deterministic=True)
            return key_of(given, fingerprint(f"/{SERVICE}/ModelInfer", body))
    return None


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
