"""How good and how fast a generating graph is: beside PyTorch in FP32, and by itself."""

import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from forebay.build import tracing
from forebay.build.decoders.running import Ids, Logits, Written
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Decoder, Fluency, Pace, Speed

WINDOW = 256
"""Tokens that are predicted from one another; the next window starts anew."""

MAX_WINDOWS = 4
"""Of a text, so that a large model's build ends."""

ROWS = 8
"""Texts at once, for what is measured so."""

_WRITTEN = 24
"""Tokens that each of them grows by."""

_TURNS = 3

PROMPTS = (
    "Is there a train to the coast tonight, and where do I change?",
    "A forebay is the pool ahead of a turbine. It",
    "Name three rivers, and a town on each of them.",
    "The museum closes at six, so",
    "Write to the landlord about the broken heating.",
    "What is the difference between a lease and a licence?",
    "def read_lines(path):",
    "Once the dough has risen, fold it and",
)
"""What texts at once go on from; the first is the short prompt."""

MIN_TOKENS = 64


class Reading(msgspec.Struct, frozen=True):
    """What a model makes of a text.

    Attributes:
        loss: mean over tokens of the negative logarithm of the probability that it gave each.
        likeliest: the token that it found likeliest instead of each, or the same.
        tokens: that were predicted.
    """

    loss: float
    likeliest: npt.NDArray[np.int64]
    tokens: int


class Reads(Protocol):
    """Says what it makes of a text."""

    def logits(self, ids: Ids) -> Logits:
        """Logits at each of a text's tokens, `[tokens, vocabulary]`."""
        ...


class Runs(Reads, Protocol):
    """What is measured: an artifact, run as a worker runs it."""

    def write(self, prompts: Sequence[Ids], *, tokens: int) -> Written:
        """Go on with prompts by the likeliest token each, side by side."""
        ...


class Reference:
    """The source in PyTorch, in FP32.

    Args:
        folder: a Hugging Face folder.

    Attributes:
        parameters: how many numbers its weights are.

    Raises:
        BuildFailed: the weights can't be loaded.
    """

    def __init__(self, folder: Path) -> None:
        with tracing.quiet():
            self._model: Any = tracing.load("AutoModelForCausalLM", folder)
        # Or it stops there, or never writes it.
        self._model.generation_config.eos_token_id = None
        self.parameters: int = self._model.num_parameters()

    def logits(self, ids: Ids) -> Logits:
        """Logits at each of a text's tokens, `[tokens, vocabulary]`."""
        import torch

        with torch.no_grad():
            made: Logits = self._model(torch.from_numpy(ids[None])).logits[0].numpy()
        return made

    def write(self, prompt: Ids, *, tokens: int) -> list[int]:
        """Go on with a prompt by the likeliest token each, past what would end it."""
        import torch

        with torch.no_grad(), tracing.quiet():
            made = self._model.generate(
                torch.from_numpy(prompt[None]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=tokens,
                do_sample=False,
            )
        return [int(one) for one in made[0, len(prompt) :]]


def text(folder: str, name: str) -> str:
    """The text that is measured on.

    Args:
        folder: what the name is relative to.
        name: of a file, or empty for the build's own.

    Raises:
        BuildFailed: it can't be read.
    """
    if not name:
        return (files("forebay.build") / "data" / "prose.txt").read_text("utf-8")
    path = Path(folder, name)
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildFailed(f"{path} can't be read: {error}.") from error


def windows(tokenizer: Tokenizer, words: str, *, context: int) -> list[Ids]:
    """A text's tokens in windows, each begun as the tokenizer begins a text.

    Raises:
        BuildFailed: the text is too short to say anything.
    """
    whole = tokenizer.encode(words, add_special_tokens=False).ids
    opening = _opening(tokenizer)
    size = min(WINDOW, context) - len(opening)
    cut = [whole[start : start + size] for start in range(0, len(whole), size)][:MAX_WINDOWS]
    if len(whole) < MIN_TOKENS:
        raise BuildFailed(
            f"The text to measure on has {len(whole)} tokens: give at least {MIN_TOKENS}."
        )
    return [np.asarray([*opening, *one], np.int64) for one in cut if len(one) > 1]


def read(model: Reads, rows: Sequence[Ids]) -> Reading:
    """What a model makes of windows of text; the first token of each is not predicted."""
    losses: list[npt.NDArray[np.float64]] = []
    likeliest: list[npt.NDArray[np.int64]] = []
    for row in rows:
        logits = model.logits(row)[:-1].astype(np.float64)
        top = logits.max(1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(1))
        losses.append(total - logits[np.arange(len(logits)), row[1:]])
        likeliest.append(logits.argmax(1))
    loss = np.concatenate(losses)
    return Reading(float(loss.mean()), np.concatenate(likeliest), len(loss))


def prompts(tokenizer: Tokenizer) -> list[Ids]:
    """The prompts that texts go on from."""
    return [np.asarray(tokenizer.encode(one).ids, np.int64) for one in PROMPTS]


def fluency(full: Reading, runner: Runs, rows: Sequence[Ids], given: Sequence[Ids]) -> Fluency:
    """How close a graph is to full precision.

    Args:
        full: what the model makes of the text in full precision.
        runner: the graph.
        rows: the text.
        given: prompts to go on from, alone and together.
    """
    got = read(runner, rows)
    together = runner.write(given, tokens=_WRITTEN).texts
    alone = [runner.write([one], tokens=_WRITTEN).texts[0] for one in given]
    return Fluency(
        tokens=got.tokens,
        perplexity=round(float(np.exp(got.loss)), 4),
        full_perplexity=round(float(np.exp(full.loss)), 4),
        ratio=round(float(np.exp(full.loss - got.loss)), 5),
        same=round(float((got.likeliest == full.likeliest).mean()), 4),
        company=round(float(np.mean([a == b for a, b in zip(together, alone, strict=True)])), 4),
    )


def pace(runner: Runs, decoder: Decoder, given: Sequence[Ids], *, slots: int, context: int) -> Pace:
    """How fast a graph writes, and what it holds.

    Args:
        runner: the graph.
        decoder: how it is run.
        given: prompts, the first a short one.
        slots: as the model's table says.
        context: likewise, tokens of a slot.
    """
    alone = [runner.write(given[:1], tokens=_WRITTEN) for _ in range(_TURNS)]
    together = [runner.write(given, tokens=_WRITTEN) for _ in range(_TURNS)]
    return Pace(
        tokens_s=round(1 / median(step for one in alone for step in one.step_s), 1),
        rows=len(given),
        rows_tokens_s=round(len(given) / median(s for one in together for s in one.step_s), 1),
        prompt_tokens=len(given[0]),
        first_token_ms=round(1_000 * median(one.first_s for one in alone), 1),
        token_bytes=decoder.token_bytes,
        context=context,
        slots=slots,
    )


def speed(reference: Reference, measured: Pace, given: Sequence[Ids], *, threads: int) -> Speed:
    """One text as PyTorch writes it in FP32, and how many times as fast the graph is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # The first tokens of a prompt cost more than the others: they are taken off.
        seconds: list[float] = []
        for count in (1, 1, _WRITTEN):
            began = time.perf_counter()
            reference.write(given[0], tokens=count)
            seconds.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    full = (_WRITTEN - 1) / max(seconds[2] - seconds[1], 1e-9)
    return Speed(
        fp32_rows_s=round(full, 1),
        rows_s=measured.tokens_s,
        ratio=round(measured.tokens_s / full, 3),
        threads=threads,
    )


def _opening(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts before a text, if anything."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    return full[: full.index(bare[0])] if bare and bare[0] in full else []
