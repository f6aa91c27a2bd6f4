"""How near Forebay's streams come to a bare decode loop, and how far transformers is behind.

    python -m tests.bench.generation smollm2

Of the built model of that name in the catalog, in turns: the bare loop, the engine with nothing
around it, all of Forebay, and transformers with the FP32 weights of the same source. Then texts
grow while a prompt of 2,000 tokens is read: how long they wait for a token, by how much of the
prompt is computed in a step, and behind the gateway.
"""

import asyncio
import functools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openai

from forebay.build.decoders import source
from forebay.contract.generation import Sampling
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.protocol import Wanted
from forebay.runtime.catalog import read
from forebay.runtime.settings import load
from tests.bench.forebay_server import ForebayServer
from tests.bench.generation import loops, streams
from tests.bench.generation.subject import QUESTIONS, STREAMS, Subject, open_subject
from tests.bench.stats import percentile, spread

ROOT = Path(__file__).parents[3]
TOKENS = 64
STATIC_TOKENS = 32
ROUNDS = 5
FIRST_TOKENS = 20
PARTS = (16, 32, 64, 128)
BESIDE = STREAMS - 1


def rates(subject: Subject, port: int, model: str, plain: Path) -> None:
    """Print tokens a second of all, and ratios round by round."""
    session, engine, prompts = subject.session(), subject.engine(), subject.prompts()
    generate = loops.transformers_static(plain, subject.threads)
    for texts in (1, STREAMS):
        some = prompts[:texts]

        kinds: dict[str, Callable[[], float]] = {
            "bare": functools.partial(loops.bare, session, some, tokens=TOKENS),
            "forebay": functools.partial(_streamed, port, model, texts),
            "engine": functools.partial(loops.engined, engine, some, tokens=TOKENS),
            "transformers": functools.partial(generate, some, tokens=STATIC_TOKENS),
        }
        rounds = [{name: measure() for name, measure in kinds.items()} for _ in range(1 + ROUNDS)][
            1:
        ]  # the first warms
        median = {name: statistics.median(one[name] for one in rounds) for name in kinds}
        print(f"{texts} at once, tokens/s: {', '.join(f'{k} {v:.0f}' for k, v in median.items())}")
        for name, other in (
            ("engine", "bare"),
            ("forebay", "bare"),
            ("forebay", "transformers"),
        ):
            ratio = spread(one[name] / one[other] for one in rounds)
            assert ratio is not None
            print(f"  {name}/{other} {ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})")


def _streamed(port: int, model: str, texts: int) -> float:
    return streams.steady(asyncio.run(streams.chats(port, model, streams=texts, tokens=TOKENS)))


def first_tokens(port: int, model: str) -> None:
    """Print how long a lone chat waits for its first token, by OpenAI's client."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    waits = [
        streams.first_token_s(client, model, f"{QUESTIONS[number % STREAMS]} {number}") * 1e3
        for number in range(1 + FIRST_TOKENS)
    ][1:]
    print(f"first token of a lone chat: {_told(waits)}")


def beside_a_long_prompt(subject: Subject, port: int, model: str) -> None:
    """Print how long readers wait for a token before and while a long prompt is read."""
    prompt = subject.long_prompt()
    room = subject.context - max(len(one) for one in subject.prompts())
    reads, long = asyncio.run(
        streams.chats_beside(
            port, model, streams=BESIDE, tokens=min(room, 400), prompt=prompt.tolist()
        )
    )
    waits: dict[bool, list[float]] = {False: [], True: []}
    for read_ in reads:
        for before, after in zip(read_.came, read_.came[1:], strict=False):
            reading = long.sent < after <= long.came[0]
            if reading or after <= long.sent:
                waits[reading].append((after - before) * 1e3)
    print(
        f"{BESIDE} streams, from one token to the next: {_told(waits[False])}; while "
        f"{len(prompt):,} tokens are read {_told(waits[True])}; those have their first token "
        f"after {long.first_s:.2f} s"
    )


def parts(subject: Subject) -> None:
    """Print the same of the engine alone, by how many tokens of a prompt a step computes."""
    long = subject.long_prompt()
    sampling = Sampling(temperature=0, ignore_end=True)
    for part in PARTS:
        engine = subject.engine(part=part)
        for id_, prompt in enumerate(subject.prompts()[:BESIDE]):
            engine.submit(Wanted(id_, PreparedRow(len(prompt), prompt), sampling))
        for _ in range(40):
            engine.step()
        one = Sampling(max_tokens=1, temperature=0)
        engine.submit(Wanted(99, PreparedRow(len(long), long), one))
        began = last = time.perf_counter()
        waits, heard = [], False
        while not heard:
            heard = any(delta.id == 99 for delta in engine.step())
            now = time.perf_counter()
            waits.append((now - last) * 1e3)
            last = now
        print(f"  parts of {part}: {_told(waits)}; first token after {last - began:.2f} s")


def _told(waits: Sequence[float]) -> str:
    ordered = sorted(waits)
    return f"p50 {np.percentile(ordered, 50):.0f} ms, p99 {percentile(ordered, 0.99):.0f} ms"


def main(model: str) -> None:
    """Measure a model of the catalog."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = load().settings
    catalog = Path(settings.models_file).resolve()
    home = Path(settings.home).resolve()
    spec = read(catalog).find(model)
    subject = open_subject(spec, home)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        plain = source.find(spec, folder).folder
        server = ForebayServer(
            ROOT, home=folder / "home", artifacts=home / "artifacts", log=folder / "forebay.log",
            models=catalog,
        )  # fmt: skip
        try:
            server.wait_until_ready()
            rates(subject, server.port, model, plain)
            first_tokens(server.port, model)
            beside_a_long_prompt(subject, server.port, model)
        finally:
            server.stop()
    print(f"the engine with nothing around it, {BESIDE} texts and the long prompt:")
    parts(subject)


if __name__ == "__main__":
    main(sys.argv[1])
