"""A gateway without a socket, for work that comes by other ways than HTTP.

    batch file ─┐              ┌─▶ answer    a dialect's body ─▶ that dialect's answer
    Celery     ─┼─▶ background ┤
    broker     ─┘              └─▶ predict   a model's input  ─▶ its output

It is the same application, with its own reply channel, whose requests queue in bulk and wait as
long as that takes. Where work comes from is kept until its outcome is, so that whoever is killed
asks again by the same key.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from forebay.contract.asking import Answered, Predicted
from forebay.contract.errors import NotFound, Unavailable
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.gateway.app import App, create_app
from forebay.gateway.dialects import replicate
from forebay.gateway.http import BEHALF, KEY, WHEN_GONE, to_json
from forebay.gateway.names import derived
from forebay.gateway.versions import Versions
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Auth, Settings

LONGEST_S: Final = 86_400.0
"""What is asked for waits no longer than this, whatever its lane's deadline."""

KEPT_S: Final = 600.0
"""How long an outcome is there for whoever asks again, seconds after the end."""

Message = MutableMapping[str, Any]


class _OnBehalf:
    """An `Asker` that wants nothing of the cache."""

    def __init__(self, behalf: str) -> None:
        self._behalf = behalf.encode()

    def cache_control(self) -> str:
        """Nothing."""
        return ""

    def caller(self) -> bytes:
        """Nobody that sends a key."""
        return b""

    def behalf(self) -> bytes:
        """Whom is asked for."""
        return self._behalf

    def tell_cache(self, status: str) -> None:
        """Nobody reads it."""


class Inside:
    """Asks the gateway's own application; an `Asking`. Enter `running` before the first request.

    Args:
        settings: `redis_url` must be set.
        catalog: the models to offer.
        versions: as of `create_app`.

    Raises:
        ConfigurationError: as of `create_app`.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, *, versions: Versions | None = None
    ) -> None:
        own = msgspec.structs.replace(
            settings,
            auth=Auth.NONE,  # whoever brings the work was asked when he brought it
            grpc_port=0,
            counts_dir="",  # what it counts nobody reads
            sync_wait_s=max(LONGEST_S, settings.sync_wait_s),
            result_retention_s=min(KEPT_S, settings.result_retention_s),
        )
        self._app: App = create_app(own, catalog, versions=versions, lane=Lane.BULK)
        self._inputs = replicate.Inputs(self._app.dispatch, self._app.fetcher)
        self._asked: dict[str, MutableMapping[str, Any]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["Inside"]:
        """Be connected until the block ends."""
        async with self._app.router.lifespan_context(self._app):
            yield self

    def abandon(self) -> None:
        """End all waits: this process stops. What runs goes on; ask for it again."""
        self._app.dispatch.abandon()

    async def answer(self, path: str, body: bytes, *, key: str, behalf: str = "") -> Answered:
        """Have a dialect answer a POST; see `Asking.answer`."""
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"inside"), (b"content-type", b"application/json")],
            KEY: key,
            BEHALF: behalf.encode(),
        }
        sent: list[Message] = []
        came = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            message = next(came, None)
            if message is None:
                await asyncio.Event().wait()  # nobody goes away here
            return message or {}

        async def send(message: Message) -> None:
            sent.append(message)

        self._asked[key] = scope
        try:
            await self._app(scope, receive, send)
        finally:
            del self._asked[key]
        begun = sent[0]
        if self._app.dispatch.abandoned and begun["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _stopping()
        return Answered(
            begun["status"],
            {name.decode("latin-1"): value.decode("latin-1") for name, value in begun["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )

    def withdraw(self, key: str) -> None:
        """End what an `answer` is waited for; see `Asking.withdraw`."""
        gone = self._asked.get(key, {}).get(WHEN_GONE)
        if gone is not None:
            gone()

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
        """Run a model, and wait until that has ended; see `Asking.predict`."""
        dispatch = self._app.dispatch
        spec = dispatch.registry.meant(model, param="model")
        raw = msgspec.Raw(input_json)
        asked = await self._inputs.read(spec, raw)
        prediction = await dispatch.create(
            spec,
            asked.rows,
            input_json=b"",  # it is where it came from, and nobody is to find it in a list
            truncate=asked.truncate,
            options=asked.options,
            wait_s=math.inf,
            cancel_after_s=within_s,
            lane=lane,
            name=derived(key),
            asker=_OnBehalf(behalf),
        )
        if not prediction.status.terminal:
            if dispatch.abandoned:
                raise _stopping()
            # Its time is over, and nothing was told; the record knows, or will.
            prediction = await dispatch.kept.cancel(prediction.id)
        output = b"null"
        if prediction.status is Status.SUCCEEDED:
            told = replicate.output_of(prediction.outputs, raw, single=asked.single)
            output = to_json(told)
        return Predicted(
            prediction.id, prediction.status, output, prediction.error, prediction.version
        )

    async def cancel(self, model: str, key: str) -> None:
        """End what is known by a key; see `Asking.cancel`."""
        dispatch = self._app.dispatch
        spec = dispatch.registry.meant(model, param="model")
        for version in dispatch.registry.versions_of(spec):
            with contextlib.suppress(NotFound):
                await dispatch.kept.cancel(PredictionId.derived(version.name, key).text)

    async def forget(self, *ids: str) -> None:
        """Delete predictions that have ended; see `Asking.forget`."""
        await self._app.dispatch.kept.discard(ids)


def _stopping() -> Unavailable:
    return Unavailable("This process stops before the prediction is done. Ask again.")
