"""Tokens that lines of a batch cost, read off their answers."""

from collections.abc import Iterable
from typing import Final

import msgspec

from forebay.contract.batches import Usage


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class _Told(msgspec.Struct, frozen=True):
    """What an answer says of it; endpoints differ in what they call things."""

    total_tokens: int = 0
    completion_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Details = _Details()
    input_tokens_details: _Details = _Details()


class _Body(msgspec.Struct, frozen=True):
    usage: _Told | None = None


class _Response(msgspec.Struct, frozen=True):
    body: _Body


class _Line(msgspec.Struct, frozen=True):
    response: _Response


_decoder: Final = msgspec.json.Decoder(_Line)


def usage_of(answers: Iterable[bytes]) -> Usage:
    """What lines of the file of answers cost together; those that say nothing of it cost nothing.

    Args:
        answers: as `rendering.answer_line` makes them.
    """
    input_, cached, output = 0, 0, 0
    for line in answers:
        told = _decoder.decode(line).response.body.usage
        if told is not None:
            made = told.completion_tokens + told.output_tokens
            input_ += told.total_tokens - made
            cached += told.prompt_tokens_details.cached_tokens
            cached += told.input_tokens_details.cached_tokens
            output += made
    return Usage(input_, cached, output)
