"""`POST /v1/moderations`: whatever a classifier's labels are, as OpenAI tells what is harmful.

https://platform.openai.com/docs/api-reference/moderations
"""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Classes, Options, Output, Task
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.openai.embeddings import name_item, rows_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json, told

THRESHOLD: Final = 0.5
"""A label with a score over this is flagged."""

_ALL_LABELS: Final = Options(top_k=0)


class ModerationsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, as OpenAI documents it for texts, and `truncate`.

    Attributes:
        input: one text, or texts.
        model: must be given: there is no model that is meant otherwise.
        truncate: cut what is over the model's limit instead of refusing it.
    """

    input: str | tuple[str, ...]
    model: str
    truncate: bool = False


class Moderation(msgspec.Struct, frozen=True):
    """What a text is.

    Attributes:
        flagged: whether any label is.
        categories: whether each label is, by label.
        category_scores: its score, as the model's own function makes it.
        category_applied_input_types: always `["text"]`.
    """

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, tuple[str, ...]]


class ModerationList(msgspec.Struct, frozen=True):
    """The answer."""

    id: str
    model: str
    results: list[Moderation]


_request = msgspec.json.Decoder(ModerationsRequest)


class Moderations:
    """Answers with what texts are.

    Args:
        dispatch: runs them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def create(self, call: Call) -> Answer:
        """Classify the input.

        Raises:
            ForebayError: by kind, why not.
        """
        request = decode(_request, call.body)
        spec = self._dispatch.registry.model_for(Task.CLASSIFICATION, request.model, param="model")
        rows = rows_of(request.input, most=self._dispatch.max_inputs)
        try:
            outcome = await self._dispatch.run(
                spec,
                rows,
                truncate=request.truncate,
                options=_ALL_LABELS,
                name=call.name,
                when_gone=call.when_gone,
                sticky=call.sticky,
                asker=call,
            )
        except InvalidInput as error:
            name_item(error)
            raise
        results = [moderation(output) for output in outcome.outputs]
        body = to_json(ModerationList(f"modr-{call.request_id}", spec.name, results))
        return Answer(body, headers=told(outcome.timing, outcome.of))


def moderation(output: Output) -> Moderation:
    """A text's labels as this API tells them, the best first.

    Raises:
        ForebayError: the output is not a classifier's.
    """
    if not isinstance(output, Classes):
        raise ForebayError("The model answered with something that is no classification.")
    labels = output.labels
    scores: Sequence[float] = struct.unpack(f"<{len(labels)}f", output.scores)
    flags = [score > THRESHOLD for score in scores]
    return Moderation(
        any(flags),
        dict(zip(labels, flags, strict=True)),
        dict(zip(labels, scores, strict=True)),
        dict.fromkeys(labels, ("text",)),
    )
