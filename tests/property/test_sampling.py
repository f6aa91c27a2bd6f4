"""How tokens are chosen, against transformers' own processors and with arbitrary settings."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.contract.generation import Sampling
from forebay.inference.generation.draws import BLOCK, Draws
from forebay.inference.generation.sampling import Logits, Sampler, choose, pick

VOCABULARY = 300
GRID = 400
"""Numbers, evenly spread: so many of them as a token's share of the distribution pick it."""

logits = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).standard_normal(VOCABULARY) * 4).astype(np.float32)
)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 7, 250]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
    seed=st.integers(-(2**63), 2**63 - 1),
)


def expected(values: Logits, sampling: Sampling) -> Any:
    """The distribution as transformers makes it."""
    import torch
    from transformers import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    ids, scores = torch.zeros((1, 0), dtype=torch.long), torch.tensor(values[None])
    scores = TemperatureLogitsWarper(sampling.temperature)(ids, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(ids, scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(ids, scores)  # type: ignore[arg-type]
    return scores.softmax(-1)[0].numpy()


def weights(values: Logits, temperature: float) -> Logits:
    scaled: Logits = np.exp((values - values.max()) / np.float32(temperature))
    return scaled


@settings(max_examples=60, deadline=None)
@given(logits, samplings)
def test_tokens_are_picked_as_often_as_transformers_would(
    values: Logits, sampling: Sampling
) -> None:
    shares = expected(values, sampling)
    of = weights(values, sampling.temperature)
    picked = [pick(of, sampling, (number + 0.5) / GRID) for number in range(GRID)]
    counts = np.bincount(picked, minlength=VOCABULARY) / GRID
    assert np.abs(counts - shares).max() <= 1.01 / GRID
    assert not counts[shares == 0].any(), "nothing that was cut is ever picked"


@given(logits, samplings, st.sampled_from([0.0, np.nextafter(1.0, 0.0)]))
def test_the_ends_of_the_numbers_pick_tokens_that_have_weight(
    values: Logits, sampling: Sampling, number: float
) -> None:
    values[100:] = -np.inf
    assert pick(weights(values, sampling.temperature), sampling, number) < 100


@given(st.lists(st.tuples(logits, samplings), min_size=2, max_size=6), st.integers(0, 70))
def test_a_row_is_chosen_for_alike_alone_and_in_company(
    rows: list[tuple[Logits, Sampling]], position: int
) -> None:
    def at(sampling: Sampling) -> Sampler:
        sampler = Sampler(sampling, [1, 2, 3], 0)
        for token in range(position):
            sampler.add(token)
        return sampler

    together = choose(np.stack([row for row, _ in rows]), [at(sampling) for _, sampling in rows])
    alone = [choose(row[None].copy(), [at(sampling)])[0] for row, sampling in rows]
    assert together == alone


@given(
    logits,
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=30),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 0.4]),
)
def test_penalties_are_those_of_transformers_and_of_the_counts(
    values: Logits,
    prompt: list[int],
    written: list[int],
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    wanted = torch.tensor(values[None])
    if repetition != 1:
        seen = torch.tensor([prompt + written])
        wanted = RepetitionPenaltyLogitsProcessor(repetition)(seen, wanted)
    for token in set(written):
        wanted[0, token] -= presence + frequency * written.count(token)
    wanted[0, 5] += 2.5
    sampling = Sampling(
        temperature=0,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=((5, 2.5),),
    )
    sampler = Sampler(sampling, prompt, 0)
    for token in written:
        sampler.add(token)
    row = values.copy()
    choose(row[None], [sampler])
    np.testing.assert_allclose(row, wanted[0].numpy(), rtol=1e-5, atol=1e-5)


@given(logits, st.integers(0, 20))
def test_logprobs_are_of_the_whole_distribution_best_first(values: Logits, count: int) -> None:
    import torch

    (chosen,) = choose(
        values[None].copy(), [Sampler(Sampling(temperature=0, logprobs=count), [1], 0)]
    )
    told = torch.tensor(values.astype(np.float64)).log_softmax(-1)
    best = told.argsort(descending=True, stable=True)[:count].tolist()
    assert chosen is not None
    assert chosen.token == int(values.argmax())
    assert chosen.logprob == pytest.approx(float(told.max()), abs=1e-5)
    assert [token for token, _ in chosen.top] == best
    assert [logprob for _, logprob in chosen.top] == pytest.approx(told[best].tolist(), abs=1e-5)


@given(logits, st.sampled_from([np.nan, np.inf]))
def test_logits_that_are_no_numbers_concern_their_row_alone(values: Logits, wrong: float) -> None:
    bad = values.copy()
    bad[7] = wrong
    sampler = Sampler(Sampling(seed=1), [1], 0)
    sound = Sampler(Sampling(seed=1), [1], 0)
    first, second = choose(np.stack([bad, values]), [sampler, sound])
    assert first is None
    assert second == choose(values[None].copy(), [sound])[0]
    assert choose(np.full((1, 5), -np.inf, np.float32), [sampler]) == [None]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 100), st.permutations(range(150)))
def test_a_number_is_told_by_its_place_whatever_was_drawn_before(
    seed: int, row: int, places: list[int]
) -> None:
    in_order = [Draws(seed, row).at(place) for place in range(150)]
    draws = Draws(seed, row)
    assert [draws.at(place) for place in places] == [in_order[place] for place in places]
    assert all(0 <= number < 1 for number in in_order)
    assert len(set(in_order)) == 150, "also across blocks"


def test_rows_and_seeds_draw_from_sequences_of_their_own() -> None:
    told = {(seed, row): Draws(seed, row).at(BLOCK) for seed in (-1, 0, 1, 7) for row in (0, 1, 2)}
    assert len(set(told.values())) == len(told)
    assert Draws(None, 0).at(0) != Draws(None, 0).at(0)
    numbers = np.array([Draws(3, 0).at(place) for place in range(6_400)])
    assert abs(numbers.mean() - 0.5) < 0.02
