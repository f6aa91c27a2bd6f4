"""What a run of the benchmark might have found, for tests of what is made of it."""

from collections.abc import Mapping

import msgspec

from tests.bench.loads import Load
from tests.bench.machine import Machine
from tests.bench.results import Results
from tests.bench.stats import Measurement, Sample


def sample(
    contender: str,
    load: Load,
    round_: int,
    answered: int,
    *,
    failed: int = 0,
    p50_ms: float | None = None,
    calls: Mapping[str, int] | None = None,
) -> Sample:
    """A second of `answered` requests, with as many sent."""
    measured = Measurement(answered, failed, 1.0, answered, p50_ms, p50_ms, p50_ms)
    return Sample(contender, load.name, round_, measured, dict(calls or {}))


def machine(**changed: object) -> Machine:
    """A machine that nobody has."""
    versions = {"numpy": "1", "onnxruntime": "2", "tokenizers": "3"}
    plain = Machine(
        "Linux", "A processor", 2, 8.0, "3.11.0", "wrk 4", "Valkey 9", versions, versions
    )
    return msgspec.structs.replace(plain, **changed)


def run_of(samples: list[Sample], **changed: object) -> Results:
    """Results around some samples."""
    titles = dict.fromkeys(s.contender for s in samples)
    plain = Results(
        started_at="2026-01-01 00:00 UTC",
        command="make bench",
        partial=False,
        rounds=2,
        seconds=1,
        threads=2,
        passes=None,
        max_rows=32,
        artifact="abc",
        machine=machine(),
        titles={name: name.capitalize() for name in titles},
        samples=samples,
    )
    return msgspec.structs.replace(plain, **changed)
