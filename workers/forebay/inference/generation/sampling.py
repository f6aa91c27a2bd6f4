"""The next token of each row, of the logits of a step.

Penalties, then what the text's grammar rules out, then temperature, then the cuts top-k, top-p and
min-p, in the order in which transformers applies them; then one uniform number picks by the inverse
of the distribution. What a row gets does not depend on the rows beside it.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from forebay.contract.errors import ForebayError
from forebay.contract.generation import Sampling
from forebay.inference.generation.draws import Draws
from forebay.inference.generation.grammar.guide import Guide
from forebay.inference.generation.penalties import Penalties

Logits = npt.NDArray[np.float32]

GREEDY_BELOW = 1e-5
"""A lower temperature takes the most likely token: dividing by it would leave nothing else."""

_FLOORS = (2.0**-10, 2.0**-20)
"""Weights, the most likely token's being 1, down to which tokens are looked at: nearly always the
first does, and there are few of those to sort. Else it is all of them."""

_BLOCK = 256


class Sampler:
    """How one request's tokens are chosen.

    Args:
        sampling: what it asks for.
        prompt: its token ids.
        row: which row of its prediction it is.
        guide: leaves the tokens that its grammar allows; None where it has none.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], row: int, guide: Guide | None = None
    ) -> None:
        self.sampling = sampling
        self.guide = guide
        self.penalties = Penalties(sampling, prompt)
        self.draws = Draws(sampling.seed, row)
        self.position = 0

    def add(self, token: int) -> None:
        """The text has one token more, chosen here or given."""
        self.position += 1
        self.penalties.add(token)
        if self.guide is not None:
            self.guide.add(token)

    def apply(self, logits: Logits) -> None:
        """Change the logits of the next token, float32 `[vocabulary]`, in place."""
        if not self.penalties.idle:
            self.penalties.apply(logits)
        if self.guide is not None:
            self.guide.apply(logits)

    @property
    def fault(self) -> ForebayError | None:
        """Why there is no next token, where that is not for the logits."""
        return None if self.guide is None else self.guide.fault


class Chosen(msgspec.Struct, frozen=True):
    """A token that was chosen.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability among all that the grammar allows, after
            penalties, before temperature and cuts; 0 where logprobs were not asked for.
        top: id and logprob of the most likely tokens, best first.
    """

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


def choose(logits: Logits, samplers: Sequence[Sampler]) -> list[Chosen | None]:
    """A token for each row.

    Args:
        logits: `[rows, vocabulary]`; penalties and grammars are applied in place.
        samplers: one a row.

    Returns:
        In order; None for a row whose logits are no numbers, or whose sampler has a fault.
    """
    for row, sampler in zip(logits, samplers, strict=True):
        sampler.apply(row)
    best: list[int] = logits.argmax(-1).tolist()
    return [
        _one(row, sampler, token)
        for row, sampler, token in zip(logits, samplers, best, strict=True)
    ]


def _one(logits: Logits, sampler: Sampler, best: int) -> Chosen | None:
    # The first NaN counts as a row's highest, so this finds it as well.
    highest: float = logits.item(best)
    if not math.isfinite(highest):
        return None
    sampling = sampler.sampling
    token = best
    if sampling.temperature >= GREEDY_BELOW:
        weights = _weights(logits, highest, sampling.temperature)
        token = pick(weights, sampling, sampler.draws.at(sampler.position))
    if sampling.logprobs is None:
        return Chosen(token)
    whole = np.log(_weights(logits, highest, 1.0).sum(dtype=np.float64)) + highest
    top = tuple(
        (int(id_), float(logits[id_] - whole)) for id_ in _most_likely(logits, sampling.logprobs)
    )
    return Chosen(token, float(logits[token] - whole), top)


def pick(weights: Logits, sampling: Sampling, number: float) -> int:
    """The token that a number in [0, 1) stands for.

    Args:
        weights: `[vocabulary]`, in proportion to the probabilities, the highest being 1.
        sampling: says which tokens are left out.
        number: uniformly drawn.
    """
    top_k = sampling.top_k if sampling.top_k < len(weights) else 0
    if not top_k and sampling.top_p >= 1 and sampling.min_p <= 0:
        return _pick_of_all(weights, number)
    tokens = _candidates(weights, top_k, sampling.top_p, sampling.min_p)
    kept = weights[tokens]
    order = np.argsort(-kept, kind="stable")
    if top_k:
        order = order[:top_k]
    sums = kept[order].cumsum(dtype=np.float64)
    end = len(order)
    if sampling.top_p < 1:
        mass = sums[-1] if top_k else weights.sum(dtype=np.float64)
        end = min(end, int(sums.searchsorted(sampling.top_p * mass)) + 1)
    if sampling.min_p > 0:
        end = min(end, int(np.count_nonzero(kept[order] >= sampling.min_p)))
    sums = sums[: max(end, 1)]
    place = min(int(sums.searchsorted(number * sums[-1], side="right")), len(sums) - 1)
    return int(tokens[order[place]])


def _candidates(weights: Logits, top_k: int, top_p: float, min_p: float) -> npt.NDArray[np.intp]:
    """All tokens that the cuts may leave, and perhaps more; in the order of their ids."""
    whole = weights.sum(dtype=np.float64) if top_p < 1 else 0.0
    for floor in _FLOORS:
        tokens = np.flatnonzero(weights >= floor)
        if top_k:
            enough = len(tokens) >= top_k
        elif top_p < 1:
            enough = weights[tokens].sum(dtype=np.float64) >= top_p * whole
        else:
            enough = floor <= min_p
        if enough:
            return tokens
    return np.arange(len(weights))


def _pick_of_all(weights: Logits, number: float) -> int:
    # Sums of blocks first: adding up a whole vocabulary one by one takes longer than all the rest.
    starts = np.arange(0, len(weights), _BLOCK)
    sums = np.add.reduceat(weights, starts).cumsum(dtype=np.float64)
    target = number * sums[-1]
    block = min(int(sums.searchsorted(target, side="right")), len(sums) - 1)
    first = block * _BLOCK
    inside = weights[first : first + _BLOCK].cumsum(dtype=np.float64)
    before = sums[block - 1] if block else 0.0
    place = int(inside.searchsorted(target - before, side="right"))
    # Two ways to add up differ in the last bits: never past the last token that has any weight.
    return first + min(place, int(inside.searchsorted(inside[-1])))


def _weights(logits: Logits, highest: float, temperature: float) -> Logits:
    with np.errstate(over="ignore"):
        scaled: Logits = (logits - highest) / np.float32(temperature)
    np.exp(scaled, out=scaled)
    return scaled


def _most_likely(logits: Logits, count: int) -> npt.NDArray[np.intp]:
    count = min(count, len(logits))
    if not count:
        return np.zeros(0, np.intp)
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    # A grammar may allow fewer than are asked for.
    tokens = np.flatnonzero((logits >= least) & (logits > -np.inf))
    return tokens[np.argsort(-logits[tokens], kind="stable")][:count]
