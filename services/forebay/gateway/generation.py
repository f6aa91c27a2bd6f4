"""How a text is to be generated, as requests of every dialect say it; see docs/generation.md.

A dialect's request inherits `SamplingFields`, so that a parameter has one name, one range and one
default, whatever protocol it comes by.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Sampling
from forebay.gateway.formats import ResponseFormat, format_of

MAX_STOPS: Final = 4
"""Stop texts in one request."""

MAX_LOGPROBS: Final = 20
"""Most likely tokens that are told with each token."""

MAX_TEXTS: Final = 128
"""Texts that one request has generated: its prompts times what it wants of each."""

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = Annotated[str, Meta(min_length=1, max_length=1_000)]
Choices = Annotated[int, Meta(ge=1, le=MAX_TEXTS)]
TopLogprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]

LogitBias = Annotated[
    dict[Annotated[int, Meta(ge=0, le=2**31 - 1)], Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=1_000),
]


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a text is to be generated. What is null, or not given, is as if nobody had said it.

    Attributes:
        max_tokens: most tokens to generate; as many as there is room for if not given.
        temperature: divides the logits; 0 takes the most likely token, 1 is the default.
        top_p: the smallest set of tokens with at least this probability is sampled from.
        top_k: only this many of the most likely tokens are; 0, the default, means all.
        min_p: tokens less likely than this share of the most likely one's are left out.
        repetition_penalty: over 1, makes tokens less likely that the prompt or the text has.
        presence_penalty: taken off the logits of tokens that the text has.
        frequency_penalty: taken off once for each time that the text has the token.
        logit_bias: added to the logits of tokens, by their ids.
        seed: the same seed gives the same text for the same prompt; none gives any.
        stop: a text that ends it and is not given, or up to four of them.
        ignore_eos: go on where the model would end, for measuring.
        response_format: the form that the text must have; any if not given.
    """

    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | tuple[Stop, ...] | None = None
    ignore_eos: bool = False
    response_format: ResponseFormat | None = None

    def sampling(
        self, *, max_tokens: int | None = None, logprobs: int | None = None, within: str = ""
    ) -> Sampling:
        """What a worker is told.

        Args:
            max_tokens: where the request says none.
            logprobs: how many of the most likely tokens are wanted with each; None wants nothing.
            within: the field that holds the parameters, where they are a part of a body; ends with
                a dot.

        Raises:
            InvalidInput: there are too many stop texts, or the form can't be had.
        """
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        if len(stop) > MAX_STOPS:
            raise InvalidInput(
                f"{within}stop has {len(stop):,} texts; {MAX_STOPS} are the most.",
                param=f"{within}stop",
            )
        format_ = format_of(self.response_format, within=within)
        if format_ is not None and self.ignore_eos:
            raise InvalidInput(
                f"{within}ignore_eos: a text of some form ends where that is complete. Send "
                "response_format or ignore_eos.",
                param=f"{within}ignore_eos",
            )
        return Sampling(
            max_tokens=max_tokens if self.max_tokens is None else self.max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple(sorted((self.logit_bias or {}).items())),
            seed=self.seed,
            stop=stop,
            logprobs=logprobs,
            ignore_end=self.ignore_eos,
            format=format_,
        )


def check_texts(texts: int, *, param: str) -> None:
    """Refuse more texts than one request may have generated.

    Raises:
        InvalidInput: there are more.
    """
    if texts > MAX_TEXTS:
        raise InvalidInput(
            f"The request wants {texts:,} texts; {MAX_TEXTS} are the most that one may: send "
            "several.",
            param=param,
        )
