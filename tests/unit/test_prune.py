"""Pruning: the smallest weights are zero, as many as asked, and compress."""

import numpy as np
import pytest

from forebay.build.linears import linears, weights_of
from forebay.build.prune import prune
from forebay.contract.recipe import PruneScope
from tests.fixtures.graphs import WIDTH, tiny_encoder


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_each_channel_loses_its_smallest_weights(share: float) -> None:
    encoder = tiny_encoder()
    before = encoder.SerializeToString(deterministic=True)
    pruned = prune(encoder, share, scope=PruneScope.CHANNEL)
    assert encoder.SerializeToString(deterministic=True) == before
    for linear in linears(encoder):
        was, now = weights_of(encoder, linear), weights_of(pruned.model, linear)
        gone = now == 0
        assert (now[~gone] == was[~gone]).all()
        for column in range(WIDTH):
            # Weights of one size, as this graph has them, are kept together.
            if len(set(np.abs(was[:, column]))) == WIDTH:
                assert gone[:, column].sum() == share * WIDTH
                assert np.abs(was[gone[:, column], column]).max() <= np.abs(
                    was[~gone[:, column], column]
                ).min()  # fmt: skip
    assert pruned.compressed < pruned.compressed_before


def test_globally_the_product_with_the_smaller_weights_loses_more() -> None:
    encoder = tiny_encoder()
    pruned = prune(encoder, 0.5, scope=PruneScope.GLOBAL)
    first, second = ((weights_of(pruned.model, linear) == 0).mean() for linear in linears(encoder))
    assert second > first


def test_nothing_is_lost_of_no_share() -> None:
    encoder = tiny_encoder()
    pruned = prune(encoder, 0.0, scope=PruneScope.CHANNEL)
    assert pruned.compressed == pruned.compressed_before
