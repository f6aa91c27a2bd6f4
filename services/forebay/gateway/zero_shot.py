"""Zero-shot classification: a text and labels become questions, and answers become scores.

Each label is a hypothesis, and each text with a hypothesis is a row of its own: such rows batch,
join and fail like any others (decision 0021). After Yin et al. 2019, arXiv 1909.00161, and as
transformers' pipeline does it.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Entailment, PairRow

TEMPLATE: Final = "This example is {}."
_SLOT: Final = "{}"


class Ranking(msgspec.Struct, frozen=True):
    """A text and what it is, as transformers names the fields; the best label first."""

    sequence: str
    labels: list[str]
    scores: list[float]


def questions(text: str, labels: Sequence[str], template: str) -> list[PairRow]:
    """A row for each label.

    Args:
        text: to classify.
        labels: at least one.
        template: a hypothesis with `{}` where the label goes.

    Raises:
        InvalidInput: the template has no `{}`.
    """
    # Not str.format: a template could ask for attributes, or for a width of gigabytes.
    if _SLOT not in template:
        raise InvalidInput(
            "hypothesis_template must have {} where the label goes.",
            param="input.hypothesis_template",
        )
    return [PairRow(text, template.replace(_SLOT, label)) for label in labels]


def ranking(
    text: str, labels: Sequence[str], answers: Sequence[Entailment], *, multi_label: bool
) -> Ranking:
    """What a text is, by the answers to its questions.

    Args:
        text: as it came.
        labels: in the order of the questions.
        answers: one a label.
        multi_label: score each label by itself, so that several can be true; else scores come
            to 1 over all labels. A single label is always scored by itself.
    """
    if multi_label or len(labels) == 1:
        scores = [_softmax([one.entails, one.contradicts])[0] for one in answers]
    else:
        scores = _softmax([one.entails for one in answers])
    order = sorted(range(len(labels)), key=lambda index: scores[index], reverse=True)
    return Ranking(text, [labels[i] for i in order], [scores[i] for i in order])


def _softmax(logits: Sequence[float]) -> list[float]:
    most = max(logits)
    powers = [math.exp(logit - most) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]
