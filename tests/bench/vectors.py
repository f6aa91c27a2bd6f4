"""Embeddings as the contenders give them, and how alike two of them are."""

import base64
import struct
from collections.abc import Sequence
from math import sqrt


def from_base64(text: str) -> list[float]:
    """The vector in a text of base64: float32, little-endian."""
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 where one has no length."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    length = sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in other))
    return dot / length if length else 0.0
