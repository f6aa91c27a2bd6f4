"""OpenAI's protocol: texts, embeddings, moderations and models, for the unmodified `openai` client.

chats        POST /v1/chat/completions
completions  POST /v1/completions
responses    POST /v1/responses; GET and DELETE /v1/responses/{id}, and what is under it
parameters   what they take beside the prompt, and what they refuse by name
queries      parameters of a GET, of which unknown ones are refused
texts        from a request of these to its answer, at once or in events
logprobs     how likely tokens were, in the shape of each
usage        tokens that a request cost
embeddings   POST /v1/embeddings
moderations  POST /v1/moderations
batches      POST and GET /v1/batches, GET /v1/batches/{id}, POST /v1/batches/{id}/cancel
models       GET /v1/models, GET /v1/models/{id}
files        POST and GET /v1/files; GET and DELETE /v1/files/{id}; GET /v1/files/{id}/content
uploads      POST /v1/uploads, and under /v1/uploads/{id} parts, complete and cancel
faults       {"error": {message, type, param, code}}
"""

from starlette.routing import Route

from forebay.gateway.batching import Batching
from forebay.gateway.dialects.openai.batches import BatchEndpoints
from forebay.gateway.dialects.openai.chats import CHATS
from forebay.gateway.dialects.openai.completions import COMPLETIONS
from forebay.gateway.dialects.openai.embeddings import Embeddings
from forebay.gateway.dialects.openai.faults import render_fault
from forebay.gateway.dialects.openai.files import FileEndpoints
from forebay.gateway.dialects.openai.models import Models
from forebay.gateway.dialects.openai.moderations import Moderations
from forebay.gateway.dialects.openai.responses import Responses
from forebay.gateway.dialects.openai.texts import Texts
from forebay.gateway.dialects.openai.uploads import UploadEndpoints
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.filing import Filing
from forebay.gateway.http import Exchange
from forebay.gateway.paths import ByMethod, routes_of

__all__ = ["render_fault", "routes"]

FILES = "/v1/files"
PARTS = "/v1/uploads/{id}/parts"


def routes(
    dispatch: Dispatch, exchange: Exchange, filing: Filing, batching: Batching
) -> list[Route]:
    """The dialect's routes."""
    files, batches = FileEndpoints(filing), BatchEndpoints(batching)
    uploads = UploadEndpoints(filing)
    models, responses = Models(dispatch), Responses(dispatch)
    paths: dict[str, ByMethod] = {
        "/v1/chat/completions": {"POST": Texts(dispatch, CHATS).create},
        "/v1/completions": {"POST": Texts(dispatch, COMPLETIONS).create},
        "/v1/responses": {"POST": responses.create},
        "/v1/responses/{id}": {"GET": responses.get, "DELETE": responses.delete},
        "/v1/responses/{id}/cancel": {"POST": responses.cancel},
        "/v1/responses/{id}/input_items": {"GET": responses.input_items},
        "/v1/embeddings": {"POST": Embeddings(dispatch).create},
        "/v1/moderations": {"POST": Moderations(dispatch).create},
        "/v1/batches": {"GET": batches.list, "POST": batches.create},
        "/v1/batches/{id}": {"GET": batches.get},
        "/v1/batches/{id}/cancel": {"POST": batches.cancel},
        "/v1/models": {"GET": models.list},
        "/v1/models/{id}": {"GET": models.get},
        FILES: {"GET": files.list, "POST": files.create},
        f"{FILES}/{{id}}": {"GET": files.get, "DELETE": files.delete},
        f"{FILES}/{{id}}/content": {"GET": files.content},
        "/v1/uploads": {"POST": uploads.create},
        PARTS: {"POST": uploads.part},
        "/v1/uploads/{id}/complete": {"POST": uploads.complete},
        "/v1/uploads/{id}/cancel": {"POST": uploads.cancel},
    }
    return routes_of(exchange, paths, render=render_fault, dialect="openai", unread={FILES, PARTS})
