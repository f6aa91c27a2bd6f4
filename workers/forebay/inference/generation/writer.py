"""The text of one request: tokens in, whole characters out, until something ends it."""

from collections import deque
from collections.abc import Collection, Iterable

from forebay.contract.generation import Alternative, Finish, Sampling, TokenLogprob
from forebay.contract.tools import CallPiece
from forebay.inference.generation.detokenize import Detokenizer
from forebay.inference.generation.grammar.calls import CallReader
from forebay.inference.generation.grammar.grammars import Held
from forebay.inference.generation.protocol import Delta, joined
from forebay.inference.generation.sampling import Chosen
from forebay.inference.generation.stop import StopStrings
from forebay.inference.generation.vocabulary import Vocabulary


class Writer:
    """Writes one text.

    Args:
        sampling: what the request asks for.
        vocabulary: of the model.
        end_ids: tokens that end a text.
        max_tokens: most tokens to write.
        held: what the text is held to.
    """

    def __init__(
        self,
        sampling: Sampling,
        vocabulary: Vocabulary,
        *,
        end_ids: Collection[int],
        max_tokens: int,
        held: Held | None = None,
    ) -> None:
        self.finish = Finish.LENGTH if max_tokens <= 0 else None
        self.written = 0
        self._vocabulary = vocabulary
        self._end_ids = () if sampling.ignore_end else end_ids
        self._max_tokens = max_tokens
        self._tells = sampling.logprobs is not None
        self._detokenizer = Detokenizer(vocabulary, held.shown if held else ())
        self._calls = CallReader(held.form) if held and held.form else None
        self._pieces: list[CallPiece] = []
        self._stops = StopStrings(sampling.stop)
        self._ids: list[int] = []
        self._text: list[str] = []
        # Where each token's text begins that was not told yet, in characters of the whole text.
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._made = 0
        self._told = 0

    def add(self, chosen: Chosen) -> None:
        """Take the next token; after it `finish` may be set."""
        self.written += 1
        self._ids.append(chosen.token)
        if chosen.token in self._end_ids:
            self.finish = Finish.STOP
        else:
            if self._tells:
                self._waiting.append((self._made, self._logprob(chosen)))
            self._tell(self._detokenizer.add(chosen.token))
            if self.finish is None and self.written >= self._max_tokens:
                self.finish = Finish.LENGTH
        if self.finish is not None and not self._stops.found:
            self._tell(self._detokenizer.end())
            if not self._stops.found:
                self._pass_on(self._stops.end())
        if self.finish is not None and self._calls is not None:
            self._text.append(self._calls.end())
            if self.finish is Finish.STOP and self._calls.called:
                self.finish = Finish.TOOL_CALLS

    def replay(self, tokens: Iterable[int]) -> None:
        """Take tokens that were told elsewhere: none of what they come to is told again."""
        for token in tokens:
            self.add(Chosen(token))
        self._ids, self._text, self._pieces = [], [], []
        # Of text that is held back the logprobs went with who chose it.
        self._waiting.clear()

    def delta(self, id_: int) -> Delta | None:
        """What there is to tell since the last one; None where there is nothing yet.

        Args:
            id_: of what was wanted.
        """
        text = "".join(self._text)
        if not text and not self._pieces and self.finish is None:
            return None
        tokens, self._ids, self._text = tuple(self._ids), [], []
        pieces, self._pieces = joined(self._pieces), []
        logprobs: list[TokenLogprob] = []
        while self._waiting and self._waiting[0][0] < self._told:
            logprobs.append(self._waiting.popleft()[1])
        return Delta(id_, text, tokens, tuple(logprobs), self.finish, calls=pieces)

    def _tell(self, text: str) -> None:
        if not text:
            return
        self._made += len(text)
        self._pass_on(self._stops.add(text))
        if self._stops.found:
            self.finish = Finish.STOP

    def _pass_on(self, text: str) -> None:
        if text:
            self._told += len(text)
            if self._calls is not None:
                text, pieces = self._calls.add(text)
                self._pieces += pieces
            self._text.append(text)

    def _logprob(self, chosen: Chosen) -> TokenLogprob:
        spelled = self._vocabulary.spelled
        top = tuple(Alternative(spelled(token), logprob) for token, logprob in chosen.top)
        return TokenLogprob(spelled(chosen.token), chosen.logprob, top)
