"""The protocol between a worker and what generates text.

An engine has no thread of its own: one thread of the worker submits, cancels and steps, in turns,
and never two at once.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from forebay.contract.errors import ForebayError
from forebay.contract.generation import Finish, Guesses, Sampling, TokenLogprob
from forebay.contract.tools import CallPiece
from forebay.inference.backends.base import Model, PreparedRow


class Wanted(msgspec.Struct, frozen=True):
    """One text to be generated.

    Attributes:
        id: what the worker calls it; no two at once have the same.
        prompt: as the model's `prepare` made it.
        sampling: how tokens are chosen, and when to stop.
        row: which row of its prediction; each draws from a sequence of its own.
        urgent: somebody waits: it goes before those that are not, and takes their slot.
        written: tokens that the text has already, generated elsewhere. What they come to is given
            to nobody again: the first delta begins where it would have gone on after them.
    """

    id: int
    prompt: PreparedRow
    sampling: Sampling
    row: int = 0
    urgent: bool = True
    written: tuple[int, ...] = ()


class Delta(msgspec.Struct, frozen=True):
    """What a step added to a text. Nothing follows one that has a `finish` or an `error`.

    Attributes:
        id: of what was wanted.
        text: whole characters; none of what may yet turn out to be a stop string.
        tokens: that came since its last delta, those included whose text is held back.
        logprobs: one a token, where they were asked for.
        finish: why it ended, in its last delta.
        error: instead, why it can't go on.
        prompt_tokens: length of the prompt; told with `finish`.
        cached_tokens: how many of the prompt's were not computed again; likewise.
        calls: pieces of calls of tools, in order; none of what they are made of is in `text`.
        drafted_tokens: how many of the text's were guessed; told with `finish`.
        accepted_tokens: how many of those were right; likewise.
        expected_tokens: how many the request expected of the text; likewise.
        met_tokens: how many of those it has; likewise.
    """

    id: int
    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    error: ForebayError | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    calls: tuple[CallPiece, ...] = ()
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    expected_tokens: int = 0
    met_tokens: int = 0


def joined(pieces: Iterable[CallPiece]) -> tuple[CallPiece, ...]:
    """Pieces of calls as few: what follows on a piece of the same call is put to it."""
    few: list[CallPiece] = []
    for piece in pieces:
        if few and few[-1].index == piece.index:
            last = few.pop()
            piece = CallPiece(last.index, last.name, last.arguments + piece.arguments)
        few.append(piece)
    return tuple(few)


class Engine(Protocol):
    """Generates texts side by side."""

    @property
    def slots(self) -> int:
        """How many grow at once. More may be submitted: they wait, the urgent ones first."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        ...

    def submit(self, wanted: Wanted) -> None:
        """Take one in; it begins at one of the next steps."""
        ...

    def cancel(self, id_: int) -> None:
        """Drop one, if it is there: no delta of it follows, and its slot is free."""
        ...

    def step(self) -> Sequence[Delta]:
        """Let each text grow by a token, or by a few; or take in a piece of a prompt.

        What goes wrong with one text is a delta of it; what is raised is the engine's own end.
        """
        ...


@runtime_checkable
class WithDrafts(Protocol):
    """A model in a worker's memory that may draft."""

    @property
    def guesses(self) -> Guesses | None:
        """What its drafts came to; None where it doesn't draft. Asked for on any thread."""
        ...


@runtime_checkable
class Generator(Model, Protocol):
    """A model in a worker's memory that generates text.

    Its `prepare` renders chats and tokenizes; a prompt that has no room in the context beside what
    `options.sampling` asks for is refused there.
    """

    @property
    def engine(self) -> Engine:
        """What runs it."""
        ...
