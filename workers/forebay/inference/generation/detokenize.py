"""A text as its tokens come, never half a character."""

import codecs
from collections.abc import Collection

from forebay.inference.generation.vocabulary import Vocabulary

_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Puts one text together.

    All that it gives, put together, is what the tokenizer makes of all the tokens at once without
    special ones. Bytes that are no character become U+FFFD, as Unicode recommends (one for each
    longest beginning of a character).

    Args:
        vocabulary: of the model.
        shown: special tokens that are text nevertheless.
    """

    def __init__(self, vocabulary: Vocabulary, shown: Collection[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._shown = shown
        self._decoder = _utf8("replace")
        self._strip = vocabulary.strip

    def add(self, token: int) -> str:
        """The characters that are whole with this token."""
        known = self._vocabulary
        spelled = known.spelled(token) if token in self._shown else known.bytes_of(token)
        return self._stripped(self._decoder.decode(spelled))

    def end(self) -> str:
        """What is left of a character that was never whole."""
        return self._stripped(self._decoder.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text
