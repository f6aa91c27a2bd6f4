"""Replicate's protocol, which is also Forebay's own job API: predictions.

    requests      what a client sends
    inputs        its `input` by task, to rows and options
    outputs       what rows came to, as transformers' pipelines tell it
    schemas       the JSON schema of both, by task
    models        GET /v1/models/{name}/schema; GET …/models, and of a model its versions
    predictions   POST /v1/predictions; GET and PUT /v1/predictions/{id}; POST …/{id}/cancel
    streams       GET /v1/predictions/{id}/stream
    rendering     a prediction as this API shows it
    faults        RFC 9457, with 422 for an input that is wrong

Mounted twice, under `/v1` and under `/replicate/v1`, which is where the `replicate` client looks
if its base URL is `…/replicate`. Its models are there only: `/v1/models` is OpenAI's.
"""

from starlette.routing import Route

from forebay.gateway.dialects.replicate.faults import render_fault
from forebay.gateway.dialects.replicate.models import Models
from forebay.gateway.dialects.replicate.predictions import Predictions
from forebay.gateway.dialects.replicate.streams import Streams
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.fetching import Fetcher
from forebay.gateway.http import Endpoint, Exchange

__all__ = ["render_fault", "routes"]

MOUNTS = ("/v1", "/replicate/v1")


def routes(dispatch: Dispatch, exchange: Exchange, fetcher: Fetcher) -> list[Route]:
    """The dialect's routes."""
    models, streams = Models(dispatch), Streams(dispatch)
    model = f"{MOUNTS[1]}/models/{{owner}}/{{name}}"
    found = [
        Route(path, Endpoint(exchange, handle, methods=("GET",), render=render_fault))
        for path, handle in (
            *((f"{mount}/models/{{name}}/schema", models.schema) for mount in MOUNTS),
            (f"{MOUNTS[1]}/models", models.list),
            (model, models.get),
            (f"{model}/versions", models.versions),
            (f"{model}/versions/{{id}}", models.version),
        )
    ]
    for mount in MOUNTS:
        path = f"{mount}/predictions"
        predictions = Predictions(dispatch, path, fetcher)
        found += [
            Route(
                path,
                Endpoint(exchange, predictions.create, methods=("POST",), render=render_fault),
            ),
            Route(
                f"{path}/{{id}}",
                Endpoint(exchange, predictions.one, methods=("GET", "PUT"), render=render_fault),
            ),
            Route(
                f"{path}/{{id}}/stream",
                Endpoint(exchange, streams.get, methods=("GET",), render=render_fault),
            ),
            Route(
                f"{path}/{{id}}/cancel",
                Endpoint(exchange, predictions.cancel, methods=("POST",), render=render_fault),
            ),
        ]
    return found
