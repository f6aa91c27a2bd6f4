"""What a PyTorch artifact's weights are of."""

from enum import StrEnum

import msgspec


class Pooling(StrEnum):
    """How token vectors become one."""

    MEAN = "mean"
    CLS = "cls"


class Network(msgspec.Struct, frozen=True):
    """How an artifact's `config.json` and `model.safetensors` become something that runs.

    Attributes:
        kind: transformers' Auto class, such as `AutoModelForSequenceClassification`.
        pooling: of an embedder; None gives logits.
        normalize: whether embeddings are scaled to unit length.
        segments: whether it is told which of two texts a token is of.
    """

    kind: str
    pooling: Pooling | None = None
    normalize: bool = False
    segments: bool = False
