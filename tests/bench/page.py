"""`docs/benchmarks.md`, written from a run's results and from nothing else."""

from collections.abc import Sequence
from textwrap import fill

from tests.bench.bare import BUCKET_ROWS, PAUSE_S, READ_ROWS
from tests.bench.check import LEAST_COSINE
from tests.bench.efficiency import PRICE
from tests.bench.loads import LEAD_S
from tests.bench.notes import notes
from tests.bench.plots import Drawn
from tests.bench.reasons import missed
from tests.bench.report import tables, verdicts
from tests.bench.results import Results
from tests.bench.table import Table
from tests.bench.texts import LONGEST_WORDS, MEAN_WORDS, SHORTEST_WORDS, ZIPF_TEXTS

INTRODUCTION = """\
<!-- Written by `make bench`. Edit tests/bench/page.py instead. -->
# Benchmarks

Forebay beside other systems and beside the bare model, on one machine. In every round of a section
each system is warmed up and measured, one after the other, and ratios are taken round by round;
sections are run one after another. Figures are medians over the rounds, with the lowest and the
highest. Compare figures within a section only: another machine, or the same one at another time,
gives others.
What is measured and why is in [decision 0007](decisions/0007-how-we-benchmark.md).
"""

CAVEATS = (
    "The load generator runs on the same cores as what it measures, so all throughputs are "
    "lower than those of a machine that has them to itself, and the fastest suffer most.",
    "Loads of a `c` are closed loops: so many connections, each with one request at a time. "
    "Latency at c=64 is that of a system kept busy all the time, not of a typical day.",
    "`open-80` is an open loop: requests come as a Poisson process at 80 % of what the same "
    "system took in `open-100`, a closed loop of 64 connections in the same round. `burst-256` is "
    "256 at once, every second. Latencies there count from when a request was due, whether or not "
    "it could be sent by then (no coordinated omission), and what sends them takes part of the "
    "same cores.",
    f"`zipf` are texts of which {ZIPF_TEXTS:,} are known, drawn by Zipf's law; `hits` is one text "
    "all the time. Both are asked of a Forebay whose model has its response cache on; one line has "
    "it asked past its cache. Nobody else has a cache to be asked.",
    "Peers are stopped (SIGSTOP) while it is not their turn, as some of them take much of a core "
    "while nobody asks them anything, and are asked something before they are measured again.",
    "A queued row is a prediction of one number, with its record, on a server that keeps nothing "
    "on disk; beside it another server, with no row waiting, is given the same rows in turn.",
    "What a request costs in money is the whole machine's price for as long as a million of them "
    "take at c=64: the load generator's share is in it.",
    "Forebay asks everybody for an API key with limits, counts what it answers, and records traces "
    "of 5 % of requests, but in `cold`, `queued`, `mixed` and `jobs`; in `fair` it asks for keys "
    "without limits. No peer does any of that.",
    "Forebay answers a request only after it was stored in Redis, as `forebay up` sets that "
    "up (an append-only file). FastAPI + Celery have a Redis that keeps nothing on disk, "
    "which favours them. mosec holds requests in its own memory.",
    "Peers run as their documentation shows, with Forebay's artifact and its limit of rows in "
    "a batch (mosec's null model takes 64 rows, the most there are to take: it would wait for "
    'more), and with one forward pass on all cores. "At its best" is with the settings found to be '
    "best for MiniLM, mostly a process a core with one thread; of mosec with its user's own code "
    "for sorting, too. They can be worse for the null model. "
    "[Decision 0007](decisions/0007-how-we-benchmark.md) says which were tried.",
    "BentoML goes by how long its last 50 batches have waited. At c=1 it is asked after c=64, and "
    "waits for others then; but not in the first round, which is the highest of its spread.",
    "Of bare jobs Forebay runs its `echo`, in batches and with 2,048 under way; the others run a "
    "Python function for each job. That is what their queues can do, not what your code takes.",
    "Of SmolLM2 a load of `c` is as many chats at once, streamed; counted are the tokens while all "
    "of them are written, as in the bare loop, which has read its prompts before. Latency at c=1 "
    "is the time to the first token of a prompt that was not asked before, at c=8 the wait from "
    "one event to the next; at c=8 and 32, where all slots are taken, an event of Forebay's has "
    "two tokens. transformers generates a static batch of the same prompts in FP32.",
    "At c=32 Forebay writes 8 of the chats at a time, as it has slots, and so does the bare loop, "
    "which does not read the prompts of those that come after; Forebay's time for that counts.",
    "A load of `c` is `c` connections; latencies are over all answers, those of the warm-up too.",
    "But for `zipf` and `hits` no text comes twice within a measurement, so nobody's cache helps.",
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


def render(results: Results, price: float = PRICE, drawn: Sequence[Drawn] = ()) -> str:
    """The whole page.

    Args:
        results: all that is kept.
        price: of a core for an hour.
        drawn: pictures, in the folder `images` beside the page.
    """
    parts = [INTRODUCTION]
    if told := notes(results):
        parts += ["About these runs:\n", "\n".join(map(_bullet, told)) + "\n"]
    goals, *others = tables(results, price)
    parts += [f"## {goals.title}\n", goals.markdown() + "\n"]
    if why := missed(verdicts(results)):
        parts += ["What is not met, and why:\n", "\n".join(map(_bullet, why)) + "\n"]
    if drawn:
        parts.append("## In pictures\n")
        parts += [f"{one.title}:\n\n![{one.title}](images/{one.file})\n" for one in drawn]
    for table in others:
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
    sections = sections_table(results)
    by_section = f"\n{sections.markdown()}\n" if sections.rows else ""
    return f"""\
```
{results.command}
```

{paragraphs}
{by_section}"""


def sections_table(results: Results) -> Table:
    """When each section was run, by which command, and what others took of the machine."""
    rows = [
        (
            f"`{ran.section}`",
            ran.started_at,
            f"{ran.rounds} × {ran.seconds} s",
            "unknown" if ran.neighbours is None else f"{ran.neighbours:.0%}",
            f"`{ran.command}`",
        )
        for ran in results.sections
    ]
    heads = ("section", "begun", "rounds", "used by others", "command")
    return Table("Sections", heads, tuple(rows))


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
