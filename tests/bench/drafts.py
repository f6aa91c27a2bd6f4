"""What drafts are worth: texts with and without them, in turns, of tasks that copy or don't.

    python -m tests.bench.drafts smollm2             # prompt lookup
    python -m tests.bench.drafts smollm2 other       # another model drafts

The artifacts are the built ones of the catalog's home. Each task's texts are written plainly and
with drafts, one at a time and so many at once, and have to be the same, token by token. Told are
the tokens a second of both, the median of their ratios, and how many drafted tokens were right.
"""

import statistics
import sys
import time
from collections.abc import Sequence

import msgspec

from forebay.build.decoders.measure import text as shipped
from forebay.contract.generation import GenerationTable, Message, Sampling, Speculation
from forebay.contract.rows import ChatRow, Options, Row
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.onnx import GraphGenerator
from forebay.inference.generation.protocol import Wanted
from forebay.runtime.processor import cores
from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore

SAMPLING = Sampling(max_tokens=128, temperature=0)
TABLE = GenerationTable(slots=8, context=2_048)
ROUNDS = 2
ARTICLE = 900
"""Characters of a text that is worked on."""


class Task(msgspec.Struct, frozen=True):
    """Prompts of one kind."""

    name: str
    prompts: tuple[str, ...]


def tasks() -> list[Task]:
    """Those that are measured: what copies, what copies in part, what copies nothing."""
    parts = shipped("", "").split("\n\n")
    articles = [part[:ARTICLE] for part in parts if len(part) > ARTICLE // 3]

    def each(ask: str) -> tuple[str, ...]:
        return tuple(f"{ask}\n\n{article}" for article in articles[:3])

    return [
        Task(
            "chats",
            (
                "Explain gravity.",
                "Tell me a story about a dog.",
                "Describe the moon.",
                "Write an email that asks for a refund.",
            ),
        ),
        Task("summaries", each("Summarize this text:")),
        Task("questions", each("What is this text about? Quote it.")),
        Task("edits", each("Correct the spelling of this text, and give all of it:")),
        Task("quotes", each("Repeat this text word for word:")),
    ]


class Outcome(msgspec.Struct):
    """What some texts came to."""

    texts: dict[int, tuple[int, ...]]
    seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0

    @property
    def tokens(self) -> int:
        """Of all."""
        return sum(map(len, self.texts.values()))


def write(model: GraphGenerator, prompts: Sequence[PreparedRow]) -> Outcome:
    """Write texts side by side; the seconds are those after all have their first token."""
    made = Outcome(dict.fromkeys(range(len(prompts)), ()))
    engine = model.engine
    for id_, prompt in enumerate(prompts):
        engine.submit(Wanted(id_, prompt, SAMPLING))
    began, first = time.perf_counter(), 0
    while engine.busy:
        if not all(made.texts.values()):
            began, first = time.perf_counter(), made.tokens
        for delta in engine.step():
            made.texts[delta.id] += delta.tokens
            made.drafted += delta.drafted_tokens
            made.accepted += delta.accepted_tokens
    made.seconds = (time.perf_counter() - began) / max(made.tokens - first, 1)
    return made


def compare(plain: GraphGenerator, drafting: GraphGenerator, task: Task, texts: int) -> None:
    """Print a task's line."""
    rows: list[Row] = [ChatRow((Message("user", prompt),)) for prompt in task.prompts]
    prepared = plain.prepare(rows, truncate=False, options=Options(sampling=SAMPLING))
    prompts = [one for one in prepared if isinstance(one, PreparedRow)]
    ratios: list[float] = []
    rates: dict[bool, list[float]] = {False: [], True: []}
    drafted = accepted = 0
    for place in range(0, len(prompts) - texts + 1, texts):
        some = prompts[place : place + texts]
        for _ in range(ROUNDS):
            slow, quick = write(plain, some), write(drafting, some)
            if slow.texts != quick.texts:
                raise SystemExit(f"{task.name}: drafts changed a text")
            ratios.append(slow.seconds / quick.seconds)
            rates[False].append(1 / slow.seconds)
            rates[True].append(1 / quick.seconds)
            drafted, accepted = drafted + quick.drafted, accepted + quick.accepted
    right = f"{accepted / drafted:.0%} of {drafted // ROUNDS:,}" if drafted else "none"
    print(
        f"{task.name}, {texts} at once: plain {statistics.median(rates[False]):.0f} tokens/s, "
        f"drafted {statistics.median(rates[True]):.0f}; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); right {right}",
        flush=True,
    )


def main(model: str, other: str = "") -> None:
    """Measure a built model."""
    store = ArtifactStore(load().settings.home)
    artifact = store.open(model)
    draft = store.open(other) if other else None

    def generator(speculation: Speculation) -> GraphGenerator:
        table = msgspec.structs.replace(TABLE, speculation=speculation)
        wanted = draft if speculation is Speculation.DRAFT else None
        folder, manifest = artifact.folder, artifact.manifest
        made = GraphGenerator(folder, manifest, table, threads=cores(), draft=wanted)
        made.warm()
        return made

    plain = generator(Speculation.OFF)
    drafting = generator(Speculation.DRAFT if other else Speculation.LOOKUP)
    for texts in (1, 2):
        for task in tasks():
            compare(plain, drafting, task, texts)


if __name__ == "__main__":
    main(*sys.argv[1:])
