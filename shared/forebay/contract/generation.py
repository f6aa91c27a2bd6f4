"""What generation is asked for and gives: sampling, chats, chunks of text, and how it ended."""

from enum import StrEnum

import msgspec

from forebay.contract.formats import Format
from forebay.contract.tools import CallPiece, ToolCall


class Finish(StrEnum):
    """Why a text ends: the model or a stop string ended it, it calls tools, or has no more room."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen, and when to stop.

    Attributes:
        max_tokens: most tokens to generate; None is as many as the context has room for.
        temperature: divides the logits; 0 takes the most likely token.
        top_p: smallest set of tokens with at least this probability is sampled from, 0..1.
        top_k: only this many of the most likely tokens are; 0 means all.
        min_p: tokens less likely than this share of the most likely one's are left out, 0..1.
        repetition_penalty: divides positive and multiplies negative logits of tokens that the
            prompt or the text has; 1 changes nothing.
        presence_penalty: taken off the logits of tokens that the text has.
        frequency_penalty: taken off once for each time that the text has the token.
        logit_bias: added to the logits of token ids.
        seed: of row 0; row i draws from a sequence of its own of the same seed. None is any.
        stop: texts that end it and are not given.
        logprobs: how many of the most likely tokens are told with each token; None tells nothing.
        ignore_end: go on where the model would end, for measuring.
        format: what the text is held to; None is any text.
    """

    max_tokens: int | None = msgspec.field(name="m", default=None)
    temperature: float = msgspec.field(name="t", default=1.0)
    top_p: float = msgspec.field(name="p", default=1.0)
    top_k: int = msgspec.field(name="k", default=0)
    min_p: float = msgspec.field(name="mp", default=0.0)
    repetition_penalty: float = msgspec.field(name="rp", default=1.0)
    presence_penalty: float = msgspec.field(name="pp", default=0.0)
    frequency_penalty: float = msgspec.field(name="fp", default=0.0)
    logit_bias: tuple[tuple[int, float], ...] = msgspec.field(name="b", default=())
    seed: int | None = msgspec.field(name="s", default=None)
    stop: tuple[str, ...] = msgspec.field(name="st", default=())
    logprobs: int | None = msgspec.field(name="lp", default=None)
    ignore_end: bool = msgspec.field(name="ie", default=False)
    format: Format | None = msgspec.field(name="f", default=None)

    @property
    def repeatable(self) -> bool:
        """Whether the same prompt gives the same text every time."""
        return self.temperature == 0 or self.seed is not None


class Speculation(StrEnum):
    """Who drafts: nobody, what prompt and text had before, or another model."""

    OFF = "off"
    LOOKUP = "lookup"
    DRAFT = "draft"


class Guesses(msgspec.Struct, frozen=True):
    """What drafts came to.

    Attributes:
        drafted: tokens that were guessed, and checked.
        accepted: how many of those were right.
    """

    drafted: int
    accepted: int

    @property
    def rate(self) -> float:
        """The share that was right, 0..1; 0 of none."""
        return self.accepted / self.drafted if self.drafted else 0.0


class GenerationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model that generates text is run: `[models.NAME.generation]`.

    Attributes:
        slots: texts that grow side by side; each has room of its own for keys and values.
        context: most tokens of one prompt and its text together; 0 is as many as the model can
            take.
        timeout_s: how long a prediction may take once it runs.
        bulk_share: what part of all tokens bulk has at least while realtime has all slots; 0: none.
        tokens_per_s: of an echo model, how fast each text grows; 0 is as fast as it can.
        speculation: `lookup` drafts what followed when the text's end was there before, `draft`
            has another model guess, `off` drafts nothing. Drafts are checked several in a run,
            where that is quicker; texts come to the same.
        draft: the other model: a smaller one with the same tokenizer, built on this machine.
    """

    slots: int = 8
    context: int = 0
    timeout_s: float = 600.0
    bulk_share: float = 0.05
    tokens_per_s: float = 0.0
    speculation: Speculation = Speculation.LOOKUP
    draft: str = ""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a chat.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`; what else a model's template knows.
        content: its text.
        name: who of several with one role, or of a tool.
        calls: of tools, in a message of the assistant's.
        answers: id of the call that a message of a tool answers.
    """

    role: str = msgspec.field(name="r")
    content: str = msgspec.field(name="x")
    name: str | None = msgspec.field(name="n", default=None)
    calls: tuple[ToolCall, ...] = msgspec.field(name="c", default=())
    answers: str | None = msgspec.field(name="a", default=None)


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    """A token that was likely; travels as an array, later fields at its end.

    Attributes:
        token: its bytes, which need not be whole characters.
        logprob: natural logarithm of its probability, before temperature and cuts.
    """

    token: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token that was chosen, and those that were likely; travels as an array.

    Attributes:
        token: its bytes.
        logprob: natural logarithm of its probability, before temperature and cuts.
        top: the most likely ones, best first.
    """

    token: bytes
    logprob: float
    top: tuple[Alternative, ...] = ()


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """What a step added to a row's text; travels as an array, later fields at its end.

    Attributes:
        prediction: its id.
        row: which row of the prediction.
        sequence: 1 for the prediction's first chunk, then one more each; the id of its event.
        text: whole characters; none of what may yet turn out to be a stop string.
        tokens: ids of the tokens that came since the row's last chunk, those included whose text
            is held back. Given all of them, another worker goes on from here.
        logprobs: one a token, where they were asked for.
        finish: why the row ended, in its last chunk.
        calls: pieces of calls of tools, in order; none of what they are made of is in `text`.
    """

    prediction: str
    row: int
    sequence: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    calls: tuple[CallPiece, ...] = ()
