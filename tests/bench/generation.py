"""How near the generation loop comes to a bare decode loop, and how far transformers is behind.

    python -m tests.bench.generation smollm2

The artifact is the built one of the catalog, the FP32 weights for transformers are of the same
source. A text and eight at once, in turns: the bare loop steps the graph and takes the likeliest
tokens, and does nothing else; the engine does everything that it does for requests; transformers
generates a static batch. Then eight texts grow while a prompt of 2,000 tokens is read: how long
they wait for a token, by how much of the prompt is computed in a step.
"""

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from forebay.build.decoders import source
from forebay.contract.generation import Sampling
from forebay.contract.manifest import Decoder
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.onnx import PART
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.session import DecoderSession, Ids
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer
from forebay.runtime.catalog import read
from forebay.runtime.processor import cores
from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore

TOKENS = 64
ROUNDS = 5
STREAMS = (1, 8)
LONG_PROMPT = 2_000
CONTEXT = 2_304
PARTS = (16, 32, 64, 128, 256)
QUESTIONS = (
    "What is the capital of France?", "Explain gravity.", "List thirty colors.",
    "Who wrote Hamlet?", "Describe the moon.", "Name all planets.", "Tell a story about a dog.",
    "Say a long poem.",
)  # fmt: skip


class Subject(msgspec.Struct, frozen=True):
    """What is measured."""

    folder: Path
    decoder: Decoder
    threads: int

    def engine(self, *, slots: int, part: int = PART) -> ContinuousEngine:
        """An engine."""
        vocabulary = Vocabulary(open_tokenizer(self.folder / TOKENIZER_FILE))
        session = self.session(slots=slots, part=part)
        return ContinuousEngine(session, vocabulary, self.decoder.end_ids)

    def session(self, *, slots: int, part: int = PART) -> DecoderSession:
        """A session."""
        pool = Pool(self.decoder, slots=slots, capacity=CONTEXT)
        path = self.folder / MODEL_FILE
        return DecoderSession(path, self.decoder, pool, chunk=part, threads=self.threads)

    def prompts(self) -> list[Ids]:
        """Short prompts of different lengths."""
        tokenizer = open_tokenizer(self.folder / TOKENIZER_FILE)
        return [np.array(tokenizer.encode(text).ids, np.int64) for text in QUESTIONS]


def bare(session: DecoderSession, prompts: Sequence[Ids]) -> float:
    """Seconds of a bare loop's steps after the first tokens."""
    tokens = np.zeros(len(prompts), np.int64)
    filled = np.array([len(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        tokens[row] = session.prefill(row, prompt, filled=0).argmax()
    began = time.perf_counter()
    for _ in range(TOKENS - 1):
        tokens = session.decode(0, tokens, filled).argmax(-1)
        filled += 1
    return time.perf_counter() - began


def engined(engine: ContinuousEngine, prompts: Sequence[Ids]) -> float:
    """Seconds of the engine's steps after all have their first tokens."""
    sampling = Sampling(max_tokens=TOKENS, temperature=0, ignore_end=True)
    for id_, prompt in enumerate(prompts):
        engine.submit(Wanted(id_, PreparedRow(len(prompt), prompt), sampling))
    engine.step()
    began = time.perf_counter()
    while engine.busy:
        engine.step()
    return time.perf_counter() - began


def transformers_static(folder: Path, threads: int) -> Callable[[Sequence[Ids]], float]:
    """What measures `generate` on a batch of prompts padded on the left, in FP32."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    known: Any = AutoModelForCausalLM
    model = known.from_pretrained(folder, dtype=torch.float32).eval()

    def run(prompts: Sequence[Ids]) -> float:
        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=mask, max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                do_sample=False, pad_token_id=0,
            )  # fmt: skip
        return time.perf_counter() - began

    return run


def rates(subject: Subject, plain: Path) -> None:
    """Print tokens a second of the three, and ratios of medians."""
    session, engine = subject.session(slots=max(STREAMS)), subject.engine(slots=max(STREAMS))
    static = transformers_static(plain, subject.threads)
    for streams in STREAMS:
        prompts = subject.prompts()[:streams]
        kinds: dict[str, Callable[[], float]] = {
            "bare": functools.partial(bare, session, prompts),
            "engine": functools.partial(engined, engine, prompts),
            "transformers": functools.partial(static, prompts),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(ROUNDS + 1):
            for name, measure in kinds.items():
                seconds = measure()
                if number:  # the first warms
                    taken[name].append(seconds)
        rate = {name: streams * TOKENS / statistics.median(of) for name, of in taken.items()}
        against = statistics.median(
            plain / ours for plain, ours in zip(taken["bare"], taken["engine"], strict=True)
        )
        print(
            f"{streams} at once: bare {rate['bare']:.0f} tokens/s, engine {rate['engine']:.0f}, "
            f"transformers {rate['transformers']:.0f}; engine/bare {against:.3f}, "
            f"engine/transformers {rate['engine'] / rate['transformers']:.1f}"
        )


def gaps(subject: Subject) -> None:
    """Print how long texts wait for a token, with and without a long prompt, by part."""
    long = np.resize(np.concatenate(subject.prompts()), LONG_PROMPT)
    for part in PARTS:
        engine = subject.engine(slots=8, part=part)
        sampling = Sampling(max_tokens=CONTEXT, temperature=0, ignore_end=True)
        for id_, prompt in enumerate(subject.prompts()[:7]):
            engine.submit(Wanted(id_, PreparedRow(len(prompt), prompt), sampling))
        waits: dict[bool, list[float]] = {False: [], True: []}
        first_s = 0.0
        for reading in (False, True):
            if reading:
                one = Sampling(max_tokens=1, temperature=0)
                engine.submit(Wanted(99, PreparedRow(len(long), long), one))
            began = last = time.perf_counter()
            for step in range(LONG_PROMPT):
                heard = any(delta.id == 99 for delta in engine.step())
                now = time.perf_counter()
                waits[reading].append((now - last) * 1000)
                last = now
                if heard or (not reading and step > 40):
                    break
            first_s = last - began
        told = [
            f"p50 {np.percentile(waits[reading], 50):.0f} ms, p99 "
            f"{np.percentile(waits[reading], 99):.0f} ms"
            for reading in (False, True)
        ]
        print(
            f"parts of {part}: 7 texts alone {told[0]}; while {LONG_PROMPT} tokens are read "
            f"{told[1]}; those have their first token after {first_s:.2f} s"
        )


def main(model: str) -> None:
    """Measure a model of the catalog."""
    settings = load().settings
    spec = read(Path(settings.models_file)).find(model)
    artifact = ArtifactStore(settings.home).open(model)
    if artifact.manifest.decoder is None:
        raise SystemExit(f"{model} generates no text")
    subject = Subject(artifact.folder, artifact.manifest.decoder, spec.threads or cores())
    with tempfile.TemporaryDirectory() as work:
        rates(subject, source.find(spec, Path(work)).folder)
    gaps(subject)


if __name__ == "__main__":
    main(sys.argv[1])
