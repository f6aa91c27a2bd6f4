"""Predictions: make (POST, or PUT under an id of one's own), show, cancel."""

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Prediction
from forebay.contract.rows import Task
from forebay.contract.versions import model_of
from forebay.gateway.dialects.replicate import inputs, requests
from forebay.gateway.dialects.replicate.outputs import is_single
from forebay.gateway.dialects.replicate.rendering import render
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.fetching import Fetcher
from forebay.gateway.http import Answer, Call, told
from forebay.gateway.names import Name, own_id


class Predictions:
    """Makes predictions and shows them.

    Args:
        dispatch: runs them.
        path: where they are mounted.
        fetcher: fetches what an input names by its address.
    """

    def __init__(self, dispatch: Dispatch, path: str, fetcher: Fetcher) -> None:
        self._dispatch = dispatch
        self._fetcher = fetcher
        self._path = path

    async def create(self, call: Call) -> Answer:
        """Make one, and wait for it if the client prefers to.

        One that has failed is an answer too, 201 and its `status`: it was made, and has an id.

        Raises:
            ForebayError: by kind, why none was made.
        """
        return await self._create(call, call.name)

    async def put(self, call: Call) -> Answer:
        """Make one under an id of the client's own, or show the one that it made before.

        Raises:
            ForebayError: by kind, why none was made.
        """
        return await self._create(call, own_id(call.path_param("id"), call.fingerprint))

    async def _create(self, call: Call, name: Name | None) -> Answer:
        wait_s = requests.wait_of(call.header(b"prefer"))
        request = requests.read(call.body)
        spec = self._dispatch.registry.meant(request.version, param="version")
        asked = await self._asked(spec, request.input)
        if request.stream:
            _check_stream(spec, asked)
        prediction = await self._dispatch.create(
            spec,
            asked.rows,
            input_json=bytes(request.input),
            truncate=asked.truncate,
            options=asked.options,
            wait_s=wait_s,
            cancel_after_s=requests.cancel_after_of(call.header(b"cancel-after")),
            name=name,
            when_gone=call.when_gone,
            sticky=call.sticky,
            stream=bool(request.stream),
            asker=call,
        )
        body = render(
            prediction,
            version=self._dispatch.registry.version(prediction),
            url=self._url(call, prediction),
            input_json=request.input,
            single=asked.single,
            streams=spec.task is Task.GENERATION,
        )
        headers = told(prediction.timing, self._dispatch.registry.which(prediction))
        return Answer(body, 201, headers=headers)

    async def _asked(self, spec: ModelSpec, input_json: msgspec.Raw) -> inputs.Asked:
        most = self._dispatch.max_inputs
        if spec.task is Task.IMAGE_CLASSIFICATION:
            given = inputs.images_of(input_json, most=most)
            return given.asked(await self._fetcher.fetch(given.addresses))
        tensors = self._dispatch.registry.tensors(spec)
        return inputs.rows_of(spec, input_json, most=most, tensors=tensors)

    async def one(self, call: Call) -> Answer:
        """GET shows one, PUT makes it."""
        return await (self.put if call.scope["method"] == "PUT" else self.get)(call)

    async def get(self, call: Call) -> Answer:
        """Show one.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        return self._shown(call, await self._dispatch.prediction(call.path_param("id")))

    async def cancel(self, call: Call) -> Answer:
        """Cancel one, and show it; one that has ended already stays as it is.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        return self._shown(call, await self._dispatch.cancel(call.path_param("id")))

    def _shown(self, call: Call, prediction: Prediction) -> Answer:
        spec = self._dispatch.registry.models.get(model_of(prediction.model))
        body = render(
            prediction,
            version=self._dispatch.registry.version(prediction),
            url=self._url(call, prediction),
            input_json=prediction.input,
            single=is_single(None if spec is None else spec.task, prediction.input),
            streams=spec is not None and spec.task is Task.GENERATION,
        )
        return Answer(body, headers=told(None, self._dispatch.registry.which(prediction)))

    def _url(self, call: Call, prediction: Prediction) -> str:
        return f"{call.base_url}{self._path}/{prediction.id}"


def _check_stream(spec: ModelSpec, asked: inputs.Asked) -> None:
    """Refuse to stream what can't be told piece by piece.

    Raises:
        InvalidInput: it can't.
    """
    if spec.task is not Task.GENERATION:
        raise InvalidInput(
            f"{spec.name!r} generates no text that could be told piece by piece: leave stream out.",
            param="stream",
        )
    if len(asked.rows) > 1:
        raise InvalidInput(
            "A stream is of one text: send a request for each prompt, or leave stream out.",
            param="stream",
        )
