"""A model's vocabulary, as llguidance takes it."""

from collections.abc import Collection

from llguidance import LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from forebay.inference.generation.vocabulary import Vocabulary


class _Tokens:
    """What `TokenizerWrapper` asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, tokenizer: Tokenizer, vocabulary: Vocabulary, *, size: int, end_id: int
    ) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end_id
        self.tokens = [vocabulary.spelled(token) for token in range(size)]
        self.special_token_ids = sorted(vocabulary.special)

    def __call__(self, text: str | bytes) -> list[int]:
        """Ids of a text, by which what the grammar leaves no choice in is spelled as usual."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def tokens_of(
    tokenizer: Tokenizer, vocabulary: Vocabulary, *, size: int, end_ids: Collection[int]
) -> LLTokenizer:
    """The vocabulary by its bytes; takes half a second for 50,000 tokens.

    Args:
        tokenizer: the artifact's.
        vocabulary: what its tokens stand for.
        size: number of logits, of which some may stand for no token.
        end_ids: tokens that end a text; at least one.
    """
    ends = sorted(end_ids)
    wrapped = TokenizerWrapper(_Tokens(tokenizer, vocabulary, size=size, end_id=ends[0]))
    return LLTokenizer(wrapped, n_vocab=size, eos_token=ends)
