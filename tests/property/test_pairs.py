"""Pairs over the limit are cut to the very tokens that the tokenizers library would keep."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from forebay.contract.errors import TooLong
from forebay.contract.manifest import TextLimits
from forebay.contract.rows import DEFAULT_OPTIONS, PairRow
from forebay.inference.tasks.base import Tokens
from forebay.inference.tasks.pairs import Pairs
from forebay.inference.tasks.text import Texts

LIMIT = 20
WORDS = tuple("abcdefghij")
PROCESSORS: dict[str, Any] = {
    "template": processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    ),
    "bert": processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0)),
    "roberta": processors.RobertaProcessing(("[SEP]", 1), ("[CLS]", 0)),
}
texts = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


def tokenizer_of(processor: Any) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(("[CLS]", "[SEP]", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processor
    return tokenizer


@pytest.mark.parametrize("strategy", ["longest_first", "only_first"])
@pytest.mark.parametrize("processor", PROCESSORS)
@given(first=texts, second=texts)
def test_a_pair_is_cut_as_the_library_cuts_it(
    strategy: str, processor: str, first: str, second: str
) -> None:
    plain, cutting = (tokenizer_of(PROCESSORS[processor]) for _ in range(2))
    limits = TextLimits(LIMIT, 1, 13, 0, (0,), (1,))
    pairs = Pairs(Texts(plain, limits), only_first=strategy == "only_first")
    (row,) = pairs.prepare([PairRow(first, second)], truncate=True, options=DEFAULT_OPTIONS)
    cutting.enable_truncation(LIMIT, strategy=strategy)
    try:
        expected = cutting.encode(first, second)
    except Exception:  # tokenizers raises bare Exception: nothing would be left of the first
        assert isinstance(row, TooLong)
        return
    assert isinstance(row, Tokens)
    assert row.data.tolist() == expected.ids
    assert row.segments is not None
    assert row.segments.tolist() == expected.type_ids
    assert row.length == len(expected.ids) <= LIMIT
