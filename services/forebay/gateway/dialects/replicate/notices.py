"""Webhooks in Replicate's words: what a request asks to be told of, and what is then told."""

from collections.abc import Callable, Sequence

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.notices import Event, Notice
from forebay.contract.prediction import Prediction
from forebay.contract.rows import Task
from forebay.contract.versions import model_of
from forebay.egress.rules import Rules
from forebay.gateway.dialects.replicate.mounts import HOSTED, NATIVE
from forebay.gateway.dialects.replicate.outputs import is_single
from forebay.gateway.dialects.replicate.rendering import render
from forebay.gateway.registry import version_of
from forebay.gateway.versions import Versions
from forebay.runtime.catalog import Catalog


def notice_of(
    webhook: str | None, events: Sequence[str] | None, *, rules: Rules, shown_at: str, own_id: str
) -> Notice | None:
    """Whom a request wants told of its prediction.

    Args:
        webhook: its `webhook`.
        events: its `webhook_events_filter`; without one, of all.
        rules: what may be called.
        shown_at: URL under which predictions are shown.
        own_id: what the client calls it, if it does.

    Raises:
        InvalidInput: the URL may not be called, as far as that can be told without resolving its
            name; an event is none; or there are events without a URL.
    """
    if not webhook:
        if events:
            raise InvalidInput(
                "webhook_events_filter says what webhook is told of: give that, too.",
                param="webhook_events_filter",
            )
        return None
    rules.place(webhook, param="webhook")
    known = {event.value: event for event in Event}
    for name in events or ():
        if name not in known:
            raise InvalidInput(
                f"{name[:80]!r} is no event: webhook_events_filter takes {', '.join(known)}.",
                param="webhook_events_filter",
            )
    wanted = tuple(known[name] for name in dict.fromkeys(events or known))
    return Notice(wanted, url=webhook, shown_at=shown_at, id=own_id)


def renderer(catalog: Catalog, versions: Versions) -> Callable[..., bytes]:
    """Shows predictions to receivers as this API shows them to clients.

    One that is a dead one's replay is shown under the name that the client gave that one, and at
    its own id: the name still leads to the dead one.

    Args:
        catalog: the models there are.
        versions: tells which artifacts serve them.
    """

    def show(prediction: Prediction, notice: Notice, *, so_far: str | None = None) -> bytes:
        spec = catalog.models.get(model_of(prediction.model))
        shown = notice.shown(prediction.id)
        return render(
            msgspec.structs.replace(prediction, id=shown),
            version=version_of(prediction, catalog, versions),
            url=f"{notice.shown_at}/{shown if prediction.retry_of is None else prediction.id}",
            input_json=prediction.input,
            single=is_single(None if spec is None else spec.task, prediction.input),
            streams=spec is not None and spec.task is Task.GENERATION,
            mount=HOSTED if HOSTED.path in notice.shown_at else NATIVE,
            so_far=so_far,
        )

    return show
