"""`GET /metrics`: what this gateway has counted, as Prometheus reads it."""

from starlette.routing import Route

from forebay.gateway.access import visitor
from forebay.gateway.http import Answer, Call, Exchange, render_problem
from forebay.gateway.metered import Meter
from forebay.gateway.paths import routes_of


def metrics_routes(exchange: Exchange, meter: Meter) -> list[Route]:
    """Where it is asked. Where API keys are asked for it takes one with `admin` or `dashboard`."""

    async def metrics(call: Call) -> Answer:
        visitor.check_watching()
        body, content_type = meter.text(call.header(b"accept").decode("latin-1"))
        return Answer(body, content_type=(b"content-type", content_type.encode("latin-1")))

    return routes_of(
        exchange, {"/metrics": {"GET": metrics}}, render=render_problem, dialect="none"
    )
