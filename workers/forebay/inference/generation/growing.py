"""A text on its way: what it came to so far, and what of that is not yet told."""

import asyncio
import time

from forebay.contract.errors import ForebayError
from forebay.contract.generation import Chunk, Finish, Sampling, TokenLogprob
from forebay.contract.rows import Generated, Output
from forebay.contract.tools import CallPiece, ToolCall
from forebay.inference.assembly import RowRef
from forebay.inference.generation.protocol import Delta, joined

DEFAULT_SAMPLING = Sampling()


class Growing:
    """One row that an engine has.

    Args:
        id_: what the engine calls it.
        ref: the row.

    Attributes:
        id: what the engine calls it.
        ref: the row.
        began: `time.monotonic()` when the worker took it up.
        result: what it came to, or why nothing; there once that has been told.
    """

    __slots__ = (
        "_accepted_tokens",
        "_calls",
        "_drafted_tokens",
        "_expected_tokens",
        "_finish",
        "_logprobs",
        "_met_tokens",
        "_prompt_tokens",
        "_text",
        "_tokens",
        "_untold",
        "began",
        "cached_tokens",
        "id",
        "ref",
        "result",
    )

    def __init__(self, id_: int, ref: RowRef) -> None:
        self.id = id_
        self.ref = ref
        self.began = time.monotonic()
        self.result: asyncio.Future[Output | ForebayError] = (
            asyncio.get_running_loop().create_future()
        )
        self.cached_tokens = 0
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls: list[CallPiece] = []
        self._finish: Finish | None = None
        self._prompt_tokens = ref.prepared.length
        self._drafted_tokens = 0
        self._accepted_tokens = 0
        self._expected_tokens = 0
        self._met_tokens = 0
        self._untold: Delta | None = None

    @property
    def row(self) -> int:
        """Its index in the prediction."""
        return self.ref.assembly.computation.first_row + self.ref.index

    @property
    def sampling(self) -> Sampling:
        """How its tokens are chosen."""
        return self.ref.assembly.computation.options.sampling or DEFAULT_SAMPLING

    @property
    def begun(self) -> bool:
        """Whether it has a token."""
        return bool(self._tokens)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens that it has so far."""
        return tuple(self._tokens)

    @property
    def finished(self) -> bool:
        """Whether the model is done with it."""
        return self._finish is not None

    @property
    def untold(self) -> bool:
        """Whether something of it is still to be told."""
        return self._untold is not None

    def recall(self, chunk: Chunk) -> None:
        """Another worker has told this of it."""
        self._add(chunk.text, chunk.tokens, chunk.logprobs, chunk.finish, chunk.calls)

    def take(self, delta: Delta, *, tell: bool) -> None:
        """A step has added this to it.

        Args:
            delta: without an error.
            tell: whether somebody reads along.
        """
        self._add(delta.text, delta.tokens, delta.logprobs, delta.finish, delta.calls)
        if delta.finish is not None:
            self._prompt_tokens = delta.prompt_tokens or self._prompt_tokens
            self.cached_tokens = delta.cached_tokens
            self._drafted_tokens = delta.drafted_tokens
            self._accepted_tokens = delta.accepted_tokens
            self._expected_tokens = delta.expected_tokens
            self._met_tokens = delta.met_tokens
        if tell:
            self._untold = delta if self._untold is None else _both(self._untold, delta)

    def next_chunk(self, sequence: int) -> Chunk | None:
        """What is not yet told, taken to be told now; None if that is nothing."""
        delta, self._untold = self._untold, None
        if delta is None:
            return None
        return Chunk(
            self.ref.assembly.delivery.prediction,
            self.row,
            sequence,
            delta.text,
            delta.tokens,
            delta.logprobs,
            delta.finish,
            delta.calls,
        )

    def end(self, error: ForebayError | None = None) -> None:
        """Give its result."""
        if self.result.done():
            return
        if error is not None:
            self.result.set_result(error)
        elif self._finish is not None:
            self.result.set_result(
                Generated(
                    "".join(self._text),
                    self._finish,
                    self._prompt_tokens,
                    len(self._tokens),
                    self.cached_tokens,
                    tuple(self._logprobs),
                    _calls(self._calls),
                    self._drafted_tokens,
                    self._accepted_tokens,
                    self._expected_tokens,
                    self._met_tokens,
                )
            )

    def _add(
        self,
        text: str,
        tokens: tuple[int, ...],
        logprobs: tuple[TokenLogprob, ...],
        finish: Finish | None,
        calls: tuple[CallPiece, ...],
    ) -> None:
        self._text.append(text)
        self._tokens += tokens
        self._logprobs += logprobs
        self._finish = finish
        self._calls += calls


def _calls(pieces: list[CallPiece]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(piece.name, piece.arguments) for piece in joined(pieces))


def _both(first: Delta, second: Delta) -> Delta:
    """Two deltas of a text as one: Redis was slower than the engine."""
    return Delta(
        second.id,
        first.text + second.text,
        first.tokens + second.tokens,
        first.logprobs + second.logprobs,
        second.finish,
        calls=joined(first.calls + second.calls),
    )
