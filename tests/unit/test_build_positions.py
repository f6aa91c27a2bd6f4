"""A table of positions says itself how long a text may be."""

from pathlib import Path
from typing import Any

import pytest

from forebay.build.tracing import check_positions
from forebay.contract.errors import BuildFailed

SIZES: dict[str, Any] = {
    "vocab_size": 8,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 4,
}


def test_a_table_that_ends_before_the_longest_texts_is_refused() -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**SIZES, max_position_embeddings=2_048))
    check_positions(model, 2_048, folder=Path("bert"))
    with pytest.raises(BuildFailed, match=r"bert has .* 2,048 tokens, .* may have 8,192"):
        check_positions(model, 8_192, folder=Path("bert"))


def test_positions_that_begin_after_the_padding_are_fewer() -> None:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(**SIZES, max_position_embeddings=2_050, pad_token_id=1)
    model = RobertaModel(config)
    check_positions(model, 2_048, folder=Path("roberta"))
    with pytest.raises(BuildFailed, match=r"positions for 2,048 tokens, .* may have 2,049"):
        check_positions(model, 2_049, folder=Path("roberta"))


def test_relative_and_rotated_positions_have_no_end() -> None:
    from transformers import DebertaV2Config, DebertaV2Model, ModernBertConfig, ModernBertModel

    relative: dict[str, Any] = {
        "relative_attention": True,
        "position_biased_input": False,
        "max_relative_positions": 8,
    }
    deberta = DebertaV2Model(DebertaV2Config(**SIZES, **relative, max_position_embeddings=16))
    rotated = ModernBertModel(ModernBertConfig(**SIZES, max_position_embeddings=16, pad_token_id=0))
    for model in (deberta, rotated):
        check_positions(model, 100_000, folder=Path("model"))
