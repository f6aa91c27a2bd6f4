"""OpenAI's protocol: texts, embeddings, moderations and models, for the unmodified `openai` client.

chats        POST /v1/chat/completions
completions  POST /v1/completions
responses    POST /v1/responses; GET and DELETE /v1/responses/{id}, and what is under it
parameters   what they take beside the prompt, and what they refuse by name
texts        from a request of these to its answer, at once or in events
logprobs     how likely tokens were, in the shape of each
usage        tokens that a request cost
embeddings   POST /v1/embeddings
moderations  POST /v1/moderations
models       GET /v1/models, GET /v1/models/{id}
faults       {"error": {message, type, param, code}}
"""

from starlette.routing import Route

from forebay.gateway.dialects.openai.chats import CHATS
from forebay.gateway.dialects.openai.completions import COMPLETIONS
from forebay.gateway.dialects.openai.embeddings import Embeddings
from forebay.gateway.dialects.openai.faults import render_fault
from forebay.gateway.dialects.openai.models import Models
from forebay.gateway.dialects.openai.moderations import Moderations
from forebay.gateway.dialects.openai.responses import Responses
from forebay.gateway.dialects.openai.texts import Texts
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Endpoint, Exchange

__all__ = ["render_fault", "routes"]


def routes(dispatch: Dispatch, exchange: Exchange) -> list[Route]:
    """The dialect's routes."""
    models, responses = Models(dispatch), Responses(dispatch)
    return [
        Route(
            "/v1/chat/completions",
            Endpoint(
                exchange, Texts(dispatch, CHATS).create, methods=("POST",), render=render_fault
            ),
        ),
        Route(
            "/v1/completions",
            Endpoint(
                exchange,
                Texts(dispatch, COMPLETIONS).create,
                methods=("POST",),
                render=render_fault,
            ),
        ),
        Route(
            "/v1/responses",
            Endpoint(exchange, responses.create, methods=("POST",), render=render_fault),
        ),
        Route(
            "/v1/responses/{id}",
            Endpoint(exchange, responses.one, methods=("GET", "DELETE"), render=render_fault),
        ),
        Route(
            "/v1/responses/{id}/cancel",
            Endpoint(exchange, responses.cancel, methods=("POST",), render=render_fault),
        ),
        Route(
            "/v1/responses/{id}/input_items",
            Endpoint(exchange, responses.input_items, methods=("GET",), render=render_fault),
        ),
        Route(
            "/v1/embeddings",
            Endpoint(exchange, Embeddings(dispatch).create, methods=("POST",), render=render_fault),
        ),
        Route(
            "/v1/moderations",
            Endpoint(
                exchange, Moderations(dispatch).create, methods=("POST",), render=render_fault
            ),
        ),
        Route(
            "/v1/models",
            Endpoint(exchange, models.list, methods=("GET",), render=render_fault),
        ),
        Route(
            "/v1/models/{id}",
            Endpoint(exchange, models.get, methods=("GET",), render=render_fault),
        ),
    ]
