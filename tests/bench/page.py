"""`docs/benchmarks.md`, written from a run's results and from nothing else."""

from textwrap import fill

from tests.bench.bare import BUCKET_ROWS, PAUSE_S, READ_ROWS
from tests.bench.check import LEAST_COSINE
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

CAVEATS = (
    "The load generator runs on the same cores as what it measures, so all throughputs are "
    "lower than those of a machine that has them to itself, and the fastest suffer most.",
    "Loads are closed loops: so many connections, each with one request at a time. Latency at "
    "c=64 is that of a system kept busy all the time, not of a typical day.",
    "Forebay answers a request only after it was stored in Redis, as `forebay up` sets that "
    "up (an append-only file). FastAPI + Celery have a Redis that keeps nothing on disk, "
    "which favours them. mosec holds requests in its own memory.",
    "Peers run as their documentation shows, with Forebay's artifact and its limit of rows in "
    "a batch (mosec's null model takes 64 rows, the most there are to take: it would wait for "
    'more), and with one forward pass on all cores. "At its best" is mosec with a process a '
    "core, one thread each, and its user's own code for sorting. FastAPI + Celery have not "
    "been looked at for better settings.",
    "Of SmolLM2 a load of `c` is as many chats at once, streamed; counted are the tokens while all "
    "of them are written, as in the bare loop, which has read its prompts before. Latency at c=1 "
    "is the time to the first token of a prompt that was not asked before, at c=8 the wait from "
    "one token to the next. transformers generates a static batch of the same prompts in FP32.",
    "A load of `c` is `c` connections; latencies are over all answers, those of the warm-up too.",
    "No text comes twice within a measurement, so nobody's cache helps.",
    "Before the run every system's embeddings are compared with the bare model's: their "
    f"cosine is at least {LEAST_COSINE:g}. A request that is refused, wrong or late counts as "
    "failed, never as throughput.",
    "The bare loops have the texts in memory: no HTTP, no JSON, no queue. None is a "
    f"competitor. The goal is set against the loop that reads {READ_ROWS} texts, sorts them by "
    f"length and runs them in {BUCKET_ROWS}s, one forward pass on all cores at a time. That is "
    "not the most that a machine can do with the artifact: for a small model such a loop on "
    "each core, with one thread, does more and is the real limit. The line below the goal is "
    "measured against it.",
    "What a request adds at c=1 has its goal against a bare model that is called back to "
    "back, its caches warm and its threads awake. Called as a lone client calls, after a "
    f"pause of {PAUSE_S * 1e3:g} ms each, the bare model itself is slower; the line below the "
    "goal counts from there. [Decision 0011](decisions/0011-what-a-lone-request-costs.md) has "
    "the rest.",
)


def render(results: Results) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    if results.notes:
        parts += ["About this run:\n", "".join(f"- {note}\n" for note in results.notes)]
    for table in tables(results):
        parts += [f"## {table.title}\n", table.markdown() + "\n"]
    parts += ["## How it was measured\n", _how(results), _machine(results)]
    parts += ["## What to keep in mind\n", "\n".join(_bullet(caveat) for caveat in CAVEATS)]
    return "\n".join(parts) + "\n"


def _how(results: Results) -> str:
    told = (
        f"{results.started_at}. {results.rounds} rounds; each measurement is {LEAD_S} s of load to "
        f"warm up, then {results.seconds} s that count. Artifact `{results.artifact}`; texts of "
        f"{MEAN_WORDS} words on average, {SHORTEST_WORDS} to {LONGEST_WORDS}, log-normal.",
        _forward_passes(results),
    )
    paragraphs = "\n\n".join(map(_filled, told))
    return f"""\
```
{results.command}
```

{paragraphs}
"""


def _forward_passes(results: Results) -> str:
    """Who runs how many forward passes at once, on how many threads, with how much in each."""
    threads = _count(results.threads, "thread")
    told = (
        f"Peers and bare loops run one forward pass at a time, on {threads}; those that say so "
        "have a process or a loop on each core, with one thread. "
    )
    ours = results.passes
    if ours is not None:
        told += (
            f"Forebay's worker runs {_count(ours.at_once, 'forward pass', 'es')} at a time, on "
            f"{_count(ours.threads, 'thread')} each, as its settings for this model say "
            "([decision 0010](decisions/0010-one-forward-pass-a-core.md)). "
        )
    told += f"A batch has at most {_count(results.max_rows, 'row')}"
    if ours is not None:
        told += f", and Forebay's at most {ours.max_tokens:,} tokens, padding included"
    return f"{told}."


def _filled(text: str, *, first: str = "", rest: str = "") -> str:
    # Hyphens are left alone: links have some.
    return fill(
        text, width=100, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _bullet(text: str) -> str:
    return _filled(text, first="- ", rest="  ")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"


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
