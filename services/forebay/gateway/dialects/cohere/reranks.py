"""`POST /v1/rerank`."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Classes, Output, Task
from forebay.gateway.bodies import decode
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json, told
from forebay.gateway.reranking import Document, Ranked, questions, ranking, texts_of


class RerankRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body.

    Attributes:
        documents: texts, or objects with a `text`.
        top_n: documents to tell, the best ones; all if not given.
        return_documents: whether each result has its document.
        truncate: cut what is over the model's limit instead of refusing it.
        max_tokens_per_doc: refused unless null, as is `max_chunks_per_doc`.
    """

    model: str
    query: str
    documents: tuple[str | Document, ...]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    truncate: bool = False
    max_tokens_per_doc: Any = None
    max_chunks_per_doc: Any = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens that were run, special tokens and each repetition of the query included."""

    total_tokens: int


class Tokens(msgspec.Struct, frozen=True):
    """The same, as Cohere names it."""

    input_tokens: int


class Metadata(msgspec.Struct, frozen=True):
    """What Cohere tells beside the results."""

    tokens: Tokens


class Reranked(msgspec.Struct, frozen=True):
    """The answer; `object` and `usage` are Jina's, `meta` is Cohere's."""

    id: str
    model: str
    results: list[Ranked]
    usage: Usage
    meta: Metadata
    object: str = "list"


_request = msgspec.json.Decoder(RerankRequest)


class Reranks:
    """Answers with an order of documents.

    Args:
        dispatch: runs them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def create(self, call: Call) -> Answer:
        """Order the documents.

        Raises:
            ForebayError: by kind, why not.
        """
        request = decode(_request, call.body)
        for name in ("max_tokens_per_doc", "max_chunks_per_doc"):
            if getattr(request, name) is not None:
                raise InvalidInput(
                    f"{name} can't be set: a document is read up to the model's own limit. Leave "
                    "it out; `truncate: true` cuts what is longer.",
                    param=name,
                )
        spec = self._dispatch.registry.model_for(Task.RERANKING, request.model, param="model")
        rows = questions(request.query, request.documents, most=self._dispatch.max_inputs)
        try:
            outcome = await self._dispatch.run(
                spec,
                rows,
                truncate=request.truncate,
                name=call.name,
                when_gone=call.when_gone,
                sticky=call.sticky,
                asker=call,
            )
        except InvalidInput as error:
            # The worker names the row; this dialect's client knows it as an item of `documents`.
            param = "documents" if error.row is None else f"documents[{error.row}]"
            error.param = error.param or param
            raise
        body = render(request, outcome.outputs, id_=call.request_id)
        return Answer(body, headers=told(outcome.timing, outcome.of))


def render(request: RerankRequest, outputs: Sequence[Output], *, id_: str) -> bytes:
    """The answer's body.

    Args:
        request: what was asked.
        outputs: one a document, in order.
        id_: of the answer.

    Raises:
        ForebayError: the outputs are not those of a reranker.
    """
    results = ranking(outputs, top_n=request.top_n)
    if request.return_documents:
        texts = texts_of(request.documents)
        results = [
            Ranked(one.index, one.relevance_score, Document(texts[one.index])) for one in results
        ]
    tokens = sum(output.tokens for output in outputs if isinstance(output, Classes))
    return to_json(Reranked(id_, request.model, results, Usage(tokens), Metadata(Tokens(tokens))))
