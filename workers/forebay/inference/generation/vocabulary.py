"""Bytes of each token, by what the tokenizer's own decoder would make of it.

A token need not be whole characters: texts are put together of bytes. Two families of decoders
are known: those of bytes written as letters (GPT-2's `ByteLevel`; Llama 3, Qwen, SmolLM, Phi) and
those of pieces with a sign for the space and `<0x0A>` for single bytes (SentencePiece's; Llama 2,
Gemma, Mistral, Phi-3).
"""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer

from forebay.contract.errors import ArtifactError

_BYTE_PIECE = len("<0x00>")


class Vocabulary:
    """What tokens stand for.

    Args:
        tokenizer: the artifact's.

    Raises:
        ArtifactError: its decoder is of neither family.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special = frozenset(
            id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        """Tokens that are none of the text."""
        self._known: dict[int, bytes] = {}
        self._letters: dict[str, int] | None = None
        self._replaced: list[tuple[str, str]] = []
        self._single_bytes = False
        self.strip = 0
        """How many spaces at the beginning of a text are none of it."""
        decoder = tokenizer.decoder
        state = None if decoder is None else json.loads(decoder.__getstate__())
        for step in _steps(state):
            self._learn(step)

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text; nothing where it is a special one, or there is no such."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = b"" if token in self.special else self.spelled(token)
        return known

    def spelled(self, token: int) -> bytes:
        """What a token looks like, special ones included."""
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._letters is not None:
            letters = self._letters
            if all(letter in letters for letter in text):
                return bytes(letters[letter] for letter in text)
            return text.encode()
        for old, new in self._replaced:
            text = text.replace(old, new)
        if self._single_bytes and len(text) == _BYTE_PIECE and text.startswith("<0x"):
            try:
                return bytes([int(text[3:-1], 16)])
            except ValueError:
                pass  # looks like one and is none
        return text.encode()

    def _learn(self, step: dict[str, Any]) -> None:
        match step:
            case {"type": "ByteLevel"}:
                self._letters = {letter: byte for byte, letter in _byte_letters()}
            case {"type": "Replace", "pattern": {"String": old}, "content": new}:
                self._replaced.append((old, new))
            case {"type": "Metaspace", "replacement": old}:
                self._replaced.append((old, " "))
                self.strip = 0 if step.get("prepend_scheme") == "never" else 1
            case {"type": "Strip", "content": " ", "start": start, "stop": 0}:
                self.strip = start
            case {"type": "ByteFallback"}:
                self._single_bytes = True
            case {"type": "Fuse"}:
                pass  # pieces are put together here anyway
            case _:
                raise ArtifactError(
                    f"Texts can't be put together as this tokenizer's decoder does: "
                    f"{step.get('type')!r} isn't known. Known are ByteLevel, and Replace, "
                    "Metaspace, Strip, ByteFallback and Fuse."
                )


def _steps(state: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
    if state is None:
        raise ArtifactError("This tokenizer has no decoder: texts can't be put together.")
    if state["type"] == "Sequence":
        return [step for part in state["decoders"] for step in _steps(part)]
    return [state]


def _byte_letters() -> Iterable[tuple[int, str]]:
    """GPT-2's letters for bytes: printable ones stand for themselves, others for 256 and on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    yield from ((byte, chr(byte)) for byte in printable)
    yield from ((byte, chr(256 + place)) for place, byte in enumerate(others))
