"""Replicate's protocol, which is also Forebay's own job API: predictions.

    requests      what a client sends
    inputs        its `input` by task, to rows and options
    outputs       what rows came to, as transformers' pipelines tell it
    schemas       the JSON schema of both, by task
    mounts        where all this is, and who owns the models
    models        GET /v1/models/{name}/schema; GET and QUERY …/models, and of a model its versions
    deployments   GET …/deployments: models with the bounds of their workers
    offers        GET …/collections, …/hardware, …/account
    unoffered     what is refused, and what to do instead
    predictions   GET and POST /v1/predictions, POST …/models/{owner}/{name}/predictions and
                  …/deployments/…; GET and PUT /v1/predictions/{id}; POST …/{id}/cancel
    notices       whom a request wants told of its prediction, and what they are told
    webhooks      GET /v1/webhooks/default/secret
    paging        lists in pages
    streams       GET /v1/predictions/{id}/stream
    files         POST and GET …/files; GET and DELETE …/files/{id}; GET …/files/{id}/download
    rendering     a prediction as this API shows it
    faults        RFC 9457, with 422 for an input that is wrong

Mounted twice, under `/v1` and under `/replicate/v1`, which is where the `replicate` client looks
if its base URL is `…/replicate`. What is not of predictions is there only: `/v1/models` is
OpenAI's.
"""

from starlette.routing import Route

from forebay.egress.rules import Rules
from forebay.gateway.dialects.replicate import unoffered
from forebay.gateway.dialects.replicate.deployments import Deployments
from forebay.gateway.dialects.replicate.faults import render_fault
from forebay.gateway.dialects.replicate.files import Files
from forebay.gateway.dialects.replicate.models import Models
from forebay.gateway.dialects.replicate.mounts import HOSTED, MOUNTS, NATIVE
from forebay.gateway.dialects.replicate.offers import Offers
from forebay.gateway.dialects.replicate.outputs import output_of
from forebay.gateway.dialects.replicate.predictions import Inputs, Predictions
from forebay.gateway.dialects.replicate.streams import Streams
from forebay.gateway.dialects.replicate.unoffered import refusing
from forebay.gateway.dialects.replicate.webhooks import Secret, Webhooks
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.fetching import Fetcher
from forebay.gateway.filing import Filing
from forebay.gateway.http import Exchange
from forebay.gateway.listings import Listings
from forebay.gateway.paths import ByMethod, routes_of

FILES = "/files"

__all__ = ["MOUNTS", "Inputs", "output_of", "render_fault", "routes"]


def routes(
    dispatch: Dispatch,
    exchange: Exchange,
    fetcher: Fetcher,
    listings: Listings,
    filing: Filing,
    rules: Rules,
    secret: Secret,
) -> list[Route]:
    """The dialect's routes."""
    registry = dispatch.registry
    models, streams = Models(dispatch), Streams(dispatch)
    deployments, offers = Deployments(registry), Offers(registry, models)
    files = Files(filing, f"{HOSTED.path}{FILES}")
    hosted = Predictions(dispatch, HOSTED, fetcher, listings, rules)
    found: dict[str, ByMethod] = {
        "/models": {
            "GET": models.list,
            "QUERY": models.search,
            "POST": refusing(unoffered.CREATE_MODEL),
        },
        "/models/{owner}/{name}": {
            "GET": models.get,
            "DELETE": refusing(unoffered.DELETE_MODEL),
        },
        "/models/{owner}/{name}/predictions": {"POST": hosted.create_of},
        "/models/{owner}/{name}/versions": {"GET": models.versions},
        "/models/{owner}/{name}/versions/{id}": {
            "GET": models.version,
            "DELETE": refusing(unoffered.DELETE_VERSION),
        },
        "/models/{owner}/{name}/versions/{id}/trainings": {"POST": refusing(unoffered.TRAIN)},
        "/deployments": {"GET": deployments.list, "POST": refusing(unoffered.DEPLOY)},
        "/deployments/{owner}/{name}": {
            "GET": deployments.get,
            "PATCH": refusing(unoffered.DEPLOY),
            "DELETE": refusing(unoffered.DEPLOY),
        },
        "/deployments/{owner}/{name}/predictions": {"POST": hosted.create_of},
        "/collections": {"GET": offers.collections},
        "/collections/{slug}": {"GET": offers.collection},
        "/hardware": {"GET": offers.hardware},
        "/account": {"GET": offers.account},
        FILES: {"GET": files.list, "POST": files.create},
        f"{FILES}/{{id}}": {"GET": files.get, "DELETE": files.delete},
        f"{FILES}/{{id}}/download": {"GET": files.content},
        "/trainings": {"GET": refusing(unoffered.TRAIN)},
        "/trainings/{id}": {"GET": refusing(unoffered.TRAIN)},
        "/trainings/{id}/cancel": {"POST": refusing(unoffered.TRAIN)},
    }
    paths: dict[str, ByMethod] = {}
    for mount in (NATIVE, HOSTED):
        of_mount = Predictions(dispatch, mount, fetcher, listings, rules)
        path = f"{mount.path}/predictions"
        paths |= {
            f"{mount.path}/models/{{name}}/schema": {"GET": models.schema},
            path: {"GET": of_mount.list, "POST": of_mount.create},
            f"{path}/{{id}}": {"GET": of_mount.get, "PUT": of_mount.put},
            f"{path}/{{id}}/stream": {"GET": streams.get},
            f"{path}/{{id}}/cancel": {"POST": of_mount.cancel},
            f"{mount.path}/webhooks/default/secret": {"GET": Webhooks(secret).secret},
        }
    paths |= {f"{HOSTED.path}{path}": by_method for path, by_method in found.items()}
    return routes_of(
        exchange, paths, render=render_fault, dialect="replicate", unread={f"{HOSTED.path}{FILES}"}
    )
