"""What the benchmark's page says about Forebay's forward passes, with a real artifact."""

from pathlib import Path

import msgspec
import pytest

from tests.bench.forebay_server import ForwardPasses, forward_passes
from tests.bench.machine import cores
from tests.fixtures.artifacts import minilm_spec


@pytest.mark.parametrize(("threads", "of_all_cores"), [(1, False), (0, True)])
def test_forward_passes_are_those_that_a_worker_makes_of_the_spec(
    minilm_home: Path, threads: int, of_all_cores: bool
) -> None:
    spec = msgspec.structs.replace(minilm_spec(), threads=threads)
    at_once, each = (1, cores()) if of_all_cores else (min(cores(), 8), 1)
    expected = ForwardPasses(at_once, each, spec.batch.max_tokens)
    assert forward_passes(spec, minilm_home) == expected
