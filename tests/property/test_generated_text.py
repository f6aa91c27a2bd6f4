"""Texts put together of tokens, and cut at stop strings, however they come."""

import functools

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from forebay.inference.generation.detokenize import Detokenizer
from forebay.inference.generation.stop import StopStrings
from forebay.inference.generation.vocabulary import Vocabulary
from tests.fixtures.decoders import SPECIAL, tokenizer_of_bytes

stops = st.lists(st.text("ab ", min_size=1, max_size=5), min_size=1, max_size=4)
pieces = st.lists(st.text("abc ", max_size=4), max_size=12)


def first_end(text: str, among: list[str]) -> tuple[int, int] | None:
    """Where the stop string that is complete first ends and begins, told by plain search."""
    for end in range(len(text) + 1):
        found = [end - len(stop) for stop in among if text[:end].endswith(stop)]
        if found:
            return end, min(found)
    return None


@given(pieces, stops)
def test_a_text_ends_at_its_first_stop_string_however_it_came(
    came: list[str], among: list[str]
) -> None:
    text, told, searching = "".join(came), "", StopStrings(among)
    for piece in came:
        if searching.found:
            break
        told += searching.add(piece)
    expected = first_end(text, among)
    assert searching.found == (expected is not None)
    if expected is None:
        told += searching.end()
    assert told == (text if expected is None else text[: expected[1]])


@given(pieces, stops)
def test_no_more_is_held_back_than_what_a_stop_string_begins_with(
    came: list[str], among: list[str]
) -> None:
    text, told, searching = "", "", StopStrings(among)
    for piece in came:
        text += piece
        told += searching.add(piece)
        if searching.found:
            return
        held = text[len(told) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in among)
        longer = [text[at:] for at in range(len(told))]
        assert not any(stop.startswith(end) for stop in among for end in longer)


@functools.cache
def of_bytes() -> Tokenizer:
    return tokenizer_of_bytes()


@functools.cache
def of_pieces() -> Tokenizer:
    """As Llama 2 has it: pieces with a sign for the space, and single bytes."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "▁the", "▁a", "b", "é", "▁▁", "日", "ing", "\n"]
    made = Tokenizer(
        models.BPE({word: id_ for id_, word in enumerate(words)}, [], byte_fallback=True)
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    made.add_special_tokens(["<s>", "</s>"])
    return made


def told(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(Vocabulary(tokenizer))
    return [*(detokenizer.add(token) for token in tokens), detokenizer.end()]


@given(st.lists(st.integers(0, of_bytes().get_vocab_size() - 1), max_size=40))
def test_any_tokens_of_bytes_come_to_what_the_tokenizer_makes_of_all(tokens: list[int]) -> None:
    assert "".join(told(of_bytes(), tokens)) == of_bytes().decode(tokens)


@given(st.text(max_size=30))
def test_no_half_character_is_ever_told(text: str) -> None:
    tokens = of_bytes().encode(text).ids
    so_far = ""
    for piece in told(of_bytes(), tokens):
        so_far += piece
        assert text.startswith(so_far)
    assert so_far == text


@given(
    st.lists(
        st.sampled_from(["▁", "▁the", "b", "é", "▁▁", "日", "</s>", "🌊", "\n", "𐍈"]), max_size=20
    )
)
def test_pieces_and_single_bytes_come_to_what_the_tokenizer_makes_of_them(
    parts: list[str],
) -> None:
    tokenizer, tokens = of_pieces(), list[int]()
    for part in parts:
        known = tokenizer.token_to_id(part)
        spelled = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in part.encode())
        for token in spelled if known is None else (known,):
            assert token is not None
            tokens.append(token)
    assert "".join(told(tokenizer, tokens)) == tokenizer.decode(tokens)


def test_special_tokens_are_none_of_a_text_and_have_a_spelling() -> None:
    vocabulary = Vocabulary(of_bytes())
    end = of_bytes().token_to_id(SPECIAL[2])
    assert end is not None
    assert vocabulary.bytes_of(end) == b""
    assert vocabulary.spelled(end) == SPECIAL[2].encode()
    assert vocabulary.bytes_of(10**6) == b""
