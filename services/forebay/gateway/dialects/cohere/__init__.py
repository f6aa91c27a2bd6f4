"""Cohere's protocol: reranking, for the unmodified `cohere` client and those of Jina's API.

reranks   POST /v2/rerank, /v1/rerank and /rerank
faults    {id, message, param, code}

The one body is that of Cohere's V2 API (https://docs.cohere.com/reference/rerank) with what its V1
API and Jina's (https://api.jina.ai/redoc) have beside it; vLLM and Infinity take the same at the
same paths.
"""

from starlette.routing import Route

from forebay.gateway.dialects.cohere.faults import render_fault
from forebay.gateway.dialects.cohere.reranks import Reranks
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Exchange
from forebay.gateway.paths import routes_of

__all__ = ["render_fault", "routes"]

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")


def routes(dispatch: Dispatch, exchange: Exchange) -> list[Route]:
    """The dialect's routes."""
    create = Reranks(dispatch).create
    return routes_of(
        exchange, {path: {"POST": create} for path in PATHS}, render=render_fault, dialect="cohere"
    )
