"""What a request cost, in tokens, as OpenAI tells it."""

from collections.abc import Sequence

import msgspec

from forebay.contract.rows import Generated


class PromptDetails(msgspec.Struct, frozen=True):
    """Tokens of prompts that were not computed again."""

    cached_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True):
    """Tokens of the request's prediction that the text has, and those that it hasn't.

    Of a request without one: tokens that were drafted and right, or wrong; those are in no text.
    """

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as the worker counted them.

    Attributes:
        prompt_tokens: of each prompt once, however many texts were wanted of it.
        completion_tokens: of all texts, tokens that ended one included.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_of(outputs: Sequence[Generated], *, choices: int) -> Usage:
    """The usage of a request.

    Args:
        outputs: a text each; those of one prompt follow one another.
        choices: texts of one prompt.
    """
    prompts = outputs[::choices]
    prompt = sum(output.prompt_tokens for output in prompts)
    completion = sum(output.tokens for output in outputs)
    cached = PromptDetails(sum(output.cached_tokens for output in prompts))
    details = _details(outputs)
    return Usage(prompt, completion, prompt + completion, cached, details)


def _details(outputs: Sequence[Generated]) -> CompletionDetails:
    if expected := sum(output.expected_tokens for output in outputs):
        met = sum(output.met_tokens for output in outputs)
        return CompletionDetails(met, expected - met)
    drafted = sum(output.drafted_tokens for output in outputs)
    accepted = sum(output.accepted_tokens for output in outputs)
    return CompletionDetails(accepted, drafted - accepted)
