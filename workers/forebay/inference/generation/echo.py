"""A generator without a model: gives the prompt again, word by word.

It measures the way of a stream, from the client to a worker's steps and back, and it shows what a
client makes of one. A word with the blanks before it is a token.
"""

import re
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput, TooLong
from forebay.contract.generation import (
    Alternative,
    Finish,
    GenerationTable,
    Sampling,
    TokenLogprob,
)
from forebay.contract.rows import DEFAULT_OPTIONS, ChatRow, Options, Row, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.protocol import Delta, Wanted

DEFAULT_CONTEXT: Final = 4_096
"""Words of a prompt and its text together."""

_WORDS: Final = re.compile(r"\s*\S+|\s+$")
_SAMPLING: Final = Sampling()


class Words(msgspec.Struct, frozen=True):
    """A prompt, and what is given for it.

    Attributes:
        prompt: how many words it has.
        text: word by word, cut where a stop string begins.
        finish: why it ends there.
    """

    prompt: int
    text: tuple[str, ...]
    finish: Finish


class EchoGenerator:
    """Takes texts, and chats, whose last message it gives again.

    Args:
        table: how many at a time, how fast, and how long they may be.
    """

    def __init__(self, table: GenerationTable) -> None:
        self._context = table.context or DEFAULT_CONTEXT
        self._engine = EchoEngine(table.slots, tokens_per_s=table.tokens_per_s)

    @property
    def version(self) -> str:
        """The backend's own name: there is no artifact."""
        return "echo"

    @property
    def engine(self) -> "EchoEngine":
        """What runs it."""
        return self._engine

    def warm(self) -> None:
        """Nothing to warm."""

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Take prompts apart. One that leaves no room for its text is refused."""
        return [self._prepare(row, options.sampling or _SAMPLING) for row in rows]

    def close(self) -> None:
        """Nothing to free."""

    def _prepare(self, row: Row, sampling: Sampling) -> PreparedRow | InvalidInput:
        if sampling.format is not None:
            return InvalidInput(
                "This model repeats what it is told: it can't be held to a format.",
                param="response_format",
            )
        if isinstance(row, ChatRow) and row.tools is not None:
            return InvalidInput(
                "This model repeats what it is told: it calls no tools.", param="tools"
            )
        match row:
            case TextRow(text=prompt):
                pass
            case ChatRow(messages=messages) if messages:
                prompt = messages[-1].content
            case _:
                return InvalidInput("This model takes texts and chats.")
        words: list[str] = _WORDS.findall(prompt)
        room = self._context - len(words)
        if room < (sampling.max_tokens or 1):
            wanted = sampling.max_tokens or 1
            return TooLong(
                f"The prompt has {len(words):,} tokens and its text may have {wanted:,}, but the "
                f"model takes {self._context:,} together: shorten the prompt, or ask for less."
            )
        return PreparedRow(len(words), _answer(words, sampling, sampling.max_tokens or room))


def _answer(words: list[str], sampling: Sampling, most: int) -> Words:
    """What is given for a prompt."""
    text, finish = words[:most], Finish.STOP
    if sampling.ignore_end and words:
        text = (words * (most // len(words) + 1))[:most]
    if len(text) == most:
        finish = Finish.LENGTH
    whole = "".join(text)
    found = [at for stop in sampling.stop if stop and (at := whole.find(stop)) >= 0]
    if found:
        finish, left, kept = Finish.STOP, min(found), list[str]()
        for word in text:
            kept.append(word[:left])
            left -= len(word)
            if left <= 0:
                break
        text = kept
    return Words(len(words), tuple(text), finish)


class _Text:
    """A text that grows."""

    __slots__ = ("at", "wanted", "words")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.words: Words = wanted.prompt.data
        self.at = len(wanted.written)

    def grow(self) -> Delta:
        """The next word of it."""
        words, at = self.words, self.at
        self.at += 1
        last = self.at >= len(words.text)
        word = words.text[at] if at < len(words.text) else ""
        alternatives = self.wanted.sampling.logprobs
        logprobs: tuple[TokenLogprob, ...] = ()
        if alternatives is not None and at < len(words.text):
            token = word.encode()
            top = (Alternative(token, 0.0),) if alternatives else ()
            logprobs = (TokenLogprob(token, 0.0, top),)
        return Delta(
            self.wanted.id,
            word,
            (at,) if at < len(words.text) else (),
            logprobs,
            finish=words.finish if last else None,
            prompt_tokens=words.prompt,
        )


class EchoEngine:
    """Gives every text a word a step.

    Args:
        slots: texts at once.
        tokens_per_s: steps a second; 0 is as many as there can be.
    """

    def __init__(self, slots: int, *, tokens_per_s: float) -> None:
        self.slots = slots
        self._step_s = 1 / tokens_per_s if tokens_per_s else 0.0
        self._next = 0.0
        self._growing: dict[int, _Text] = {}
        self._waiting: tuple[deque[_Text], deque[_Text]] = (deque(), deque())

    def __len__(self) -> int:
        """How many texts grow."""
        return len(self._growing)

    @property
    def busy(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._growing or any(self._waiting))

    def submit(self, wanted: Wanted) -> None:
        """Take one in."""
        self._waiting[not wanted.urgent].append(_Text(wanted))

    def cancel(self, id_: int) -> None:
        """Drop one."""
        self._growing.pop(id_, None)
        for waiting in self._waiting:
            for text in waiting:
                if text.wanted.id == id_:
                    waiting.remove(text)
                    break

    def step(self) -> list[Delta]:
        """A word more of each; not sooner after the last one than the rate allows."""
        self._fill()
        if self._step_s:
            due = max(self._next, now := time.monotonic())
            time.sleep(due - now)
            self._next = due + self._step_s
        deltas = [text.grow() for text in self._growing.values()]
        for delta in deltas:
            if delta.finish is not None:
                del self._growing[delta.id]
        return deltas

    def _fill(self) -> None:
        """Give free slots to who waits; those that are urgent take them from those that aren't."""
        urgent, others = self._waiting
        while urgent and len(self._growing) >= self.slots:
            slow = next((t for t in self._growing.values() if not t.wanted.urgent), None)
            if slow is None:
                return
            others.appendleft(self._growing.pop(slow.wanted.id))
            self._take(urgent)
        for waiting in self._waiting:
            while waiting and len(self._growing) < self.slots:
                self._take(waiting)

    def _take(self, waiting: "deque[_Text]") -> None:
        text = waiting.popleft()
        self._growing[text.wanted.id] = text
