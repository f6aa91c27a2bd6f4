"""The protocol over HTTP: an endpoint's handler for each path."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.tensors import BYTES
from forebay.contract.versions import model_of
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.oip import requests
from forebay.gateway.dialects.oip.description import Description
from forebay.gateway.dialects.oip.framing import HEADER_LENGTH
from forebay.gateway.dialects.oip.inference import Answered, Inference
from forebay.gateway.dialects.oip.statistics import ModelStatistics, Statistics
from forebay.gateway.http import Answer, Call, Handler, Header, to_json, told
from forebay.gateway.tensors import Tensor

BINARY = (b"content-type", b"application/octet-stream")


class OutputParameters(msgspec.Struct, frozen=True):
    """Of an output that is binary: how many bytes of those behind the JSON are its own."""

    binary_data_size: int


class OutputTensor(msgspec.Struct, frozen=True):
    """An output; its elements are in `data`, flat, or behind the JSON."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Sequence[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: OutputParameters | msgspec.UnsetType = msgspec.UNSET


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON of an answer to `infer`."""

    model_name: str
    outputs: list[OutputTensor]
    model_version: str = ""
    id: str = ""


class ServerLive(msgspec.Struct, frozen=True):
    """Body of `GET /v2/health/live`."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    """Body of `GET /v2/health/ready`."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Body of `GET /v2/models/{model}/ready`."""

    name: str
    ready: bool


class StatisticsBody(msgspec.Struct, frozen=True):
    """Body of the statistics."""

    model_stats: list[ModelStatistics]


class IndexRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v2/repository/index`; `ready` lists only what is."""

    ready: bool = False


class LoadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v2/repository/models/{model}/load` and `…/unload`."""

    parameters: dict[str, Any] = {}


_index = msgspec.json.Decoder(IndexRequest)
_load = msgspec.json.Decoder(LoadRequest)


class Rest:
    """Answers over HTTP.

    Args:
        inference: runs inferences.
        description: says what there is.
        statistics: says what came of inferences.
        max_body_bytes: largest body of an inference once it is decompressed.
    """

    def __init__(
        self,
        inference: Inference,
        description: Description,
        statistics: Statistics,
        *,
        max_body_bytes: int,
    ) -> None:
        self._inference = inference
        self._description = description
        self._statistics = statistics
        self._max_body_bytes = max_body_bytes

    async def server(self, call: Call) -> Answer:
        """What this server is."""
        return Answer(to_json(self._description.server()))

    async def live(self, call: Call) -> Answer:
        """The event loop turns, or this would not be answered."""
        return Answer(to_json(ServerLive(live=True)))

    async def ready(self, call: Call) -> Answer:
        """Whether a request would be taken and answered now."""
        ready = self._description.ready()
        return Answer(to_json(ServerReady(ready)), 200 if ready else 503)

    async def model(self, call: Call) -> Answer:
        """What a model takes and gives."""
        return Answer(to_json(self._description.model(self._spec(call))))

    async def model_ready(self, call: Call) -> Answer:
        """Whether a model would answer: one that is unloaded would not, nor one nobody can load."""
        spec = self._spec(call)
        ready = await self._description.model_ready(spec)
        return Answer(to_json(ModelReady(spec.name, ready)), 200 if ready else 503)

    async def config(self, call: Call) -> Answer:
        """A model's configuration."""
        return Answer(to_json(self._description.config(self._spec(call))))

    async def stats(self, call: Call) -> Answer:
        """What came of inferences of one model."""
        spec = self._spec(call)
        return Answer(to_json(StatisticsBody([self._statistics_of(spec)])))

    async def all_stats(self, call: Call) -> Answer:
        """What came of inferences of each model."""
        told = [self._statistics_of(spec) for spec in self._description.specs()]
        return Answer(to_json(StatisticsBody(told)))

    async def index(self, call: Call) -> Answer:
        """What models there are."""
        request = decode(_index, call.body or b"{}")
        return Answer(to_json(await self._description.index(ready=request.ready)))

    async def load(self, call: Call) -> Answer:
        """Have a model loaded."""
        request = decode(_load, call.body or b"{}")
        await self._description.load(call.path_param("model"), parameters=bool(request.parameters))
        return Answer(b"{}")

    async def unload(self, call: Call) -> Answer:
        """Have a model unloaded."""
        decode(_load, call.body or b"{}")
        await self._description.unload(call.path_param("model"))
        return Answer(b"{}")

    async def infer(self, call: Call) -> Answer:
        """Run an inference.

        Raises:
            ForebayError: by kind, why not.
        """
        return await self._infer(call, self._spec(call))

    def infer_of(self, model: str) -> Handler:
        """`infer` for one model, at a path that needs no parameters to be found."""

        async def infer(call: Call) -> Answer:
            return await self._infer(call, self._inference.model(model, ""))

        return infer

    async def _infer(self, call: Call, spec: ModelSpec) -> Answer:
        asked = requests.read(call, limit=self._max_body_bytes)
        request = asked.request
        answered = await self._inference.run(
            spec,
            asked.inputs,
            wanted=[output.name for output in request.outputs],
            parameters=request.parameters,
            name=call.name,
            when_gone=call.when_gone,
            sticky=call.sticky,
            asker=call,
        )
        return render(answered, id_=request.id, is_binary=asked.is_binary)

    def _spec(self, call: Call) -> ModelSpec:
        """The model that the path names."""
        params = call.scope["path_params"]
        return self._inference.model(str(params["model"]), str(params.get("version", "")))

    def _statistics_of(self, spec: ModelSpec) -> ModelStatistics:
        return self._statistics.of(model_of(spec.name), self._description.version(spec))


def render(answered: Answered, *, id_: str, is_binary: Callable[[str], bool]) -> Answer:
    """The answer to an inference.

    Args:
        answered: what came of it.
        id_: the request's own; empty if it had none.
        is_binary: whether an output, by its name, is to be given as binary data.

    Raises:
        InvalidInput: an output can't be told in JSON.
    """
    outputs: list[OutputTensor] = []
    behind: list[bytes] = []
    for tensor in answered.outputs:
        if is_binary(tensor.name):
            raw = tensor.raw
            behind.append(raw)
            outputs.append(
                OutputTensor(
                    tensor.name,
                    tensor.shape,
                    tensor.datatype,
                    parameters=OutputParameters(len(raw)),
                )
            )
        else:
            outputs.append(
                OutputTensor(tensor.name, tensor.shape, tensor.datatype, data=_elements(tensor))
            )
    text = to_json(InferResponse(answered.model, outputs, answered.version, id_))
    timing = told(answered.timing, answered.of)
    if not behind:
        return Answer(text, headers=timing)
    length: Header = (HEADER_LENGTH, b"%d" % len(text))
    return Answer(b"".join((text, *behind)), content_type=BINARY, headers=(length, *timing))


def _elements(tensor: Tensor) -> Sequence[Any]:
    """A tensor's elements as JSON has them."""
    if tensor.datatype != BYTES:
        if not tensor.is_bounded:
            raise InvalidInput(
                f"{tensor.name} holds infinite numbers, which JSON can't tell: ask for it as "
                "binary data (parameters.binary_data).",
                param=tensor.name,
            )
        return tensor.numbers
    try:
        return [item.decode() for item in tensor.strings]
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{tensor.name} holds bytes that are no text: ask for it as binary data "
            "(parameters.binary_data).",
            param=tensor.name,
        ) from None
