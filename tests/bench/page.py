"""`docs/benchmarks.md`, written from a run's results and from nothing else."""

from textwrap import fill

from tests.bench.loads import LEAD_S
from tests.bench.results import Results
from tests.bench.tables import tables
from tests.bench.texts import LONGEST_WORDS, MEAN_WORDS, SHORTEST_WORDS

INTRODUCTION = """\
<!-- Written by `make bench`. Edit tests/bench/page.py instead. -->
# Benchmarks

Forebay beside other systems and beside the bare model, all in one interleaved run on one machine:
in every round each system is warmed up and measured, one after the other, and ratios are taken
round by round. Figures are medians over the rounds, with the lowest and the highest. Compare
figures within this page only: another machine, or the same one on another day, gives others.
What is measured and why is in [decision 0007](decisions/0007-how-we-benchmark.md).
"""

CAVEATS = """\
- The load generator runs on the same cores as what it measures, so all throughputs are lower than
  those of a machine that has them to itself, and the fastest suffer most.
- Loads are closed loops: so many connections, each with one request at a time. Latency at c=64 is
  that of a system kept busy all the time, not of a typical day.
- Forebay answers a request only after it was stored in Redis, as `forebay up` sets that up (an
  append-only file). FastAPI + Celery have a Redis that keeps nothing on disk, which favours them.
  mosec holds requests in its own memory.
- Peers run as their documentation shows, with the artifact, thread count and batch limit that
  Forebay has (mosec's null model takes 64 rows, the most there are to take: it would wait for
  more). "At its best" is mosec with a process a core, one thread each, and its user's own code
  for sorting.
- A load of `c` is `c` connections; latencies are over all answers, those of the warm-up too.
- No text comes twice within a measurement, so nobody's cache helps.
- Before the run every system's embeddings are compared with the bare model's (cosine at least
  0.999). A request that is refused, wrong or late counts as failed and never as throughput.
- The bare loops have the texts in memory: no HTTP, no JSON, no queue. "64 sorted, in 8s" is the
  usual way to run this artifact fast, and a loop on each core the limit; neither is a competitor.
- What a request adds at c=1 counts from a bare model that is called back to back, its caches warm
  and its threads awake. Called at the pace of a lone client the bare model itself is slower: the
  line with the pause. [Decision 0011](decisions/0011-what-a-lone-request-costs.md) has the rest.
"""


def render(results: Results) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    if results.notes:
        parts += ["About this run:\n", "".join(f"- {note}\n" for note in results.notes)]
    for table in tables(results):
        parts += [f"## {table.title}\n", table.markdown() + "\n"]
    parts += ["## How it was measured\n", _how(results), _machine(results)]
    parts += ["## What to keep in mind\n", CAVEATS]
    return "\n".join(parts)


def _how(results: Results) -> str:
    wrapped = fill(
        f"{results.started_at}. {results.rounds} rounds; each measurement is {LEAD_S} s of load to "
        f"warm up, then {results.seconds} s that count. {results.threads} threads for a forward "
        f"pass, at most {results.max_rows} rows in a batch, artifact `{results.artifact}`. Texts "
        f"of {MEAN_WORDS} words on average, {SHORTEST_WORDS} to {LONGEST_WORDS}, log-normal.",
        width=100,
    )
    return f"""\
```
{results.command}
```

{wrapped}
"""


def _machine(results: Results) -> str:
    machine, neighbours = results.machine, results.neighbours
    others = "unknown" if neighbours is None else f"{neighbours:.0%} of the cores' time"

    def listed(versions: dict[str, str]) -> str:
        return ", ".join(f"{name} {version}" for name, version in versions.items())

    return f"""\
| | |
|---|---|
| CPU | {machine.cpu}, {machine.cores} cores |
| memory | {machine.memory_gib:.0f} GiB |
| system | {machine.system}, Python {machine.python} |
| used by others meanwhile | {others} |
| tools | {machine.wrk}; {machine.redis} |
| Forebay's environment | {listed(machine.ours)} |
| the peers' environment | {listed(machine.theirs)} |
"""
