"""Why a goal is missed, where it is: in one or two sentences, and where its profile is."""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.bench.goals import Standing, Verdict

_NULL: Final = (
    "a request takes 190 µs of CPU with API keys, limits, metrics and traces on, and wrk takes its "
    "part of the same two cores: where they go is in "
    "[decision 24](decisions/0024-what-the-null-path-costs.md)"
)
_DURABLE: Final = (
    "a request passes two processes beside the gateway and is written down twice before it is "
    "answered; one that stays in memory does neither "
    "([decision 24](decisions/0024-what-the-null-path-costs.md))"
)
_LONE: Final = (
    "the path without a model takes 0.7 ms, a little more than the goal allows. More yet is the "
    "model itself, called once in a while instead of back to back, on one thread where the bare "
    "loop has two; and 0.3 ms is what the path has more to do for it: a text, 384 numbers as JSON, "
    "caches that the model has emptied. `python -m tests.bench.lone` measures each; more in "
    "[decision 11](decisions/0011-what-a-lone-request-costs.md) and "
    "[decision 78](decisions/0078-lone-rows.md)"
)
_QUIET: Final = (
    "its median is 1.0 to 1.4 times that alone: it waits for no batch of the other's, but for a "
    "core that reads, writes and tokenizes for him "
    "([decision 67](decisions/0067-turns-on-a-full-lane.md))"
)

REASONS: Final[Mapping[str, str]] = {
    "null path, c=64, one gateway": _NULL,
    "null path, c=64, against LitServe": _NULL,
    "null path, c=64, against FastAPI + Celery": (
        "twenty times what it does would be more than the two cores have for a request that is "
        "written down; "
        "[decision 24](decisions/0024-what-the-null-path-costs.md) says what they are taken by"
    ),
    "null path, c=64, against mosec": _DURABLE,
    "added to the bare model called back to back, c=1, p50": _LONE,
    "added to the bare model, c=1, p99": _LONE,
    "a quiet key beside another's 16 lists of 64 texts, p99, of its p99 alone": _QUIET,
    "a quiet key beside another's 64 texts at a time, p99, of its p99 alone": _QUIET,
    "MiniLM, c=64, against mosec": (
        "both are at what the cores do with this artifact in batches that are padded little; what "
        "is left is the path's ([decision 68](decisions/0068-batches-by-what-they-take.md))"
    ),
    "8 streams of SmolLM2, against the bare decode loop": (
        "the bare loop has both cores to itself; here the server, the gateway and the client that "
        "reads eight streams run on them, too ([decision 50](decisions/0050-what-a-step-costs.md))"
    ),
}
"""By the title of the goal."""


def missed(verdicts: Sequence[Verdict]) -> list[str]:
    """For each goal that was measured and not met, why; in the order of the goals."""
    return [
        f"{verdict.comparison.title}: "
        f"{REASONS.get(verdict.comparison.title, 'not looked into yet')}."
        for verdict in verdicts
        if verdict.standing is Standing.NOT_MET
    ]
