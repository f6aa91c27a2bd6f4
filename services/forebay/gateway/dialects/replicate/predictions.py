"""Predictions: make (POST, or PUT under an id of one's own), show, list, cancel."""

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.notices import Event
from forebay.contract.prediction import Lane, Prediction, Status
from forebay.contract.rows import Task
from forebay.contract.versions import model_of
from forebay.egress.rules import Rules
from forebay.gateway.dialects.replicate import inputs, paging, requests
from forebay.gateway.dialects.replicate.addresses import inlined
from forebay.gateway.dialects.replicate.mounts import Mount, meant, owned
from forebay.gateway.dialects.replicate.notices import notice_of
from forebay.gateway.dialects.replicate.outputs import is_single
from forebay.gateway.dialects.replicate.rendering import render
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.fetching import Fetcher
from forebay.gateway.http import Answer, Call, told
from forebay.gateway.listings import Listings
from forebay.gateway.names import Name, own_id


class Inputs:
    """Reads inputs: what a client asks of a model.

    Args:
        dispatch: knows models and bounds.
        fetcher: fetches what an input names by its address.
    """

    def __init__(self, dispatch: Dispatch, fetcher: Fetcher) -> None:
        self._dispatch = dispatch
        self._fetcher = fetcher

    async def read(self, spec: ModelSpec, input_json: msgspec.Raw) -> inputs.Asked:
        """The rows and options of an input.

        Raises:
            InvalidInput: the model doesn't take it, or what it names can't be fetched.
        """
        most = self._dispatch.max_inputs
        if spec.task is Task.IMAGE_CLASSIFICATION:
            given = inputs.images_of(input_json, most=most)
            return given.asked(await self._fetcher.fetch(given.addresses))
        tensors = self._dispatch.registry.tensors(spec)
        asked = inputs.rows_of(spec, input_json, most=most, tensors=tensors)
        serving = self._dispatch.registry.serving(spec)
        if spec.task is not Task.PYTHON or serving is None or serving.schemas is None:
            return asked
        rows = await inlined(
            asked.rows, serving.schemas[0], self._fetcher.fetch, single=asked.single
        )
        return msgspec.structs.replace(asked, rows=rows)


class Predictions:
    """Makes predictions and shows them.

    Args:
        dispatch: runs them.
        mount: where they are.
        fetcher: fetches what an input names by its address.
        listings: what there is.
        rules: what may be called out to.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        mount: Mount,
        fetcher: Fetcher,
        listings: Listings,
        rules: Rules,
    ) -> None:
        self._dispatch = dispatch
        self._rules = rules
        self._inputs = Inputs(dispatch, fetcher)
        self._mount = mount
        self._listings = listings

    async def create(self, call: Call) -> Answer:
        """Make one, and wait for it if the client prefers to.

        One that has failed is an answer too, 201 and its `status`: it was made, and has an id.

        Raises:
            ForebayError: by kind, why none was made.
        """
        return await self._create_any(call, call.name)

    async def create_of(self, call: Call) -> Answer:
        """Make one of the model that the path names.

        Raises:
            ForebayError: by kind, why none was made.
        """
        spec = owned(self._dispatch.registry, call.path_param("owner"), call.path_param("name"))
        return await self._create(call, spec, requests.read_of(call.body), call.name)

    async def put(self, call: Call) -> Answer:
        """Make one under an id of the client's own, or show the one that it made before.

        Raises:
            ForebayError: by kind, why none was made.
        """
        return await self._create_any(call, own_id(call.path_param("id"), call.fingerprint))

    async def _create_any(self, call: Call, name: Name | None) -> Answer:
        request = requests.read(call.body)
        spec = meant(self._dispatch.registry, request.version)
        return await self._create(call, spec, request, name)

    async def _create(
        self,
        call: Call,
        spec: ModelSpec,
        request: requests.CreatePredictionOf,
        name: Name | None,
    ) -> Answer:
        wait_s = requests.wait_of(call.header(b"prefer"))
        asked = await self._inputs.read(spec, request.input)
        if request.stream:
            _check_stream(spec, asked)
        notice = notice_of(
            request.webhook,
            request.webhook_events_filter,
            rules=self._rules,
            shown_at=f"{call.base_url}{self._mount.path}/predictions",
            own_id=name.shown or "" if name is not None else "",
        )
        # An output is told while it grows, so it has to be kept while it does.
        told_growing = notice is not None and Event.OUTPUT in notice.events
        grows = spec.task is Task.GENERATION and len(asked.rows) == 1
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
            stream=bool(request.stream) or (told_growing and grows),
            lane=Lane.BULK if wait_s is None and not request.stream else None,
            asker=call,
            notice=notice,
        )
        if self._mount.hosted and wait_s is not None and not prediction.status.terminal:
            # Replicate's client takes any other status for the end of its wait, and of it all.
            prediction = msgspec.structs.replace(prediction, status=Status.STARTING)
        body = render(
            prediction,
            version=self._dispatch.registry.version(prediction),
            url=self._url(call, prediction),
            input_json=request.input,
            single=asked.single,
            streams=spec.task is Task.GENERATION,
            mount=self._mount,
        )
        headers = told(prediction.timing, self._dispatch.registry.which(prediction))
        return Answer(body, 201, headers=headers)

    async def get(self, call: Call) -> Answer:
        """Show one.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        return self._shown(call, await self._dispatch.kept.prediction(call.path_param("id")))

    async def cancel(self, call: Call) -> Answer:
        """Cancel one, and show it; one that has ended already stays as it is.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        return self._shown(call, await self._dispatch.kept.cancel(call.path_param("id")))

    async def list(self, call: Call) -> Answer:
        """A page of those that have an id, the newest first.

        Raises:
            InvalidInput: a parameter is wrong; it names it.
            Unavailable: Redis is out of reach.
        """
        asked = paging.read(call.scope["query_string"])
        page = await self._listings.page(
            asked.cursor, asked.created, lambda prediction: self._body(call, prediction)
        )
        return Answer(paging.body(page, asked, f"{call.base_url}{self._path}"))

    def _shown(self, call: Call, prediction: Prediction) -> Answer:
        body = self._body(call, prediction)
        return Answer(body, headers=told(None, self._dispatch.registry.which(prediction)))

    def _body(self, call: Call, prediction: Prediction) -> bytes:
        spec = self._dispatch.registry.models.get(model_of(prediction.model))
        return render(
            prediction,
            version=self._dispatch.registry.version(prediction),
            url=self._url(call, prediction),
            input_json=prediction.input,
            single=is_single(None if spec is None else spec.task, prediction.input),
            streams=spec is not None and spec.task is Task.GENERATION,
            mount=self._mount,
        )

    @property
    def _path(self) -> str:
        return f"{self._mount.path}/predictions"

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
