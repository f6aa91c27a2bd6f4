"""What drafts are worth to a model that generates text: texts with and without them, in turns."""

import statistics
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from forebay.build.decoders import measure as shipped
from forebay.contract.errors import ArtifactError
from forebay.contract.generation import Message, Sampling, Speculation
from forebay.contract.manifest import Decoder, Drafts
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import ChatRow, Options, Row, Task, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.load import load
from forebay.inference.generation.onnx import GraphGenerator
from forebay.inference.generation.protocol import Wanted
from forebay.storage.artifacts import ArtifactStore

SAMPLING: Final = Sampling(max_tokens=48, temperature=0)

ARTICLE: Final = 600
"""Characters of the shipped text that a prompt holds, at most."""

ASKS: Final = ("Repeat this text word for word:", "Correct this text:", "Summarize this text:")
"""What is asked of a part of the shipped text: to copy all of it, most of it, some of it. Beside
these stand prompts that give nothing to copy."""


class _Written(msgspec.Struct, frozen=True):
    """A text.

    Attributes:
        tokens: of it.
        seconds: a token, the first one not counted.
        drafted: how many tokens were guessed.
        accepted: how many of those were right.
    """

    tokens: tuple[int, ...]
    seconds: float
    drafted: int
    accepted: int


def measure(spec: ModelSpec, store: ArtifactStore) -> tuple[Drafts, ...]:
    """What each way to draft is worth: by lookup, and by the model that the spec names.

    Args:
        spec: a model that is built.
        store: where its artifact is, and that of who drafts.

    Returns:
        One for each way; none of a model that doesn't generate by a graph, or for which nothing
        can be drafted here.

    Raises:
        ArtifactError: an artifact doesn't load, or drafts have changed a text.
        ConfigurationError: the model that drafts can't.
    """
    if spec.task is not Task.GENERATION or spec.backend is not BackendName.ONNX:
        return ()
    ways = [Speculation.LOOKUP] + [Speculation.DRAFT] * bool(spec.generation.draft)
    with _loaded(spec, store, Speculation.OFF) as plain:
        decoder = store.open(spec.name).manifest.decoder
        prompts = _prompts(plain, decoder)
        found = [_compare(spec, store, plain, prompts, way) for way in ways]
    return tuple(drafts for drafts in found if drafts is not None)


def _compare(
    spec: ModelSpec,
    store: ArtifactStore,
    plain: GraphGenerator,
    prompts: Sequence[PreparedRow],
    way: Speculation,
) -> Drafts | None:
    """What one way is worth; None where nothing can be drafted, or there is nothing to write."""
    with _loaded(spec, store, way) as drafting:
        if drafting.guesses is None:
            return None
        pairs = [(_write(plain, prompt), _write(drafting, prompt)) for prompt in prompts]
    # One that ends at once tells nothing.
    pairs = [(one, other) for one, other in pairs if len(one.tokens) > 2]
    if not pairs:
        return None
    if any(one.tokens != other.tokens for one, other in pairs):
        raise ArtifactError(
            f"Drafts have changed a text of {spec.name!r}, which they must not: set "
            f'models.{spec.name}.generation.speculation = "off".'
        )
    return Drafts(
        by=way,
        model=spec.generation.draft if way is Speculation.DRAFT else "",
        tokens=sum(len(other.tokens) for _, other in pairs),
        drafted=sum(other.drafted for _, other in pairs),
        accepted=sum(other.accepted for _, other in pairs),
        tokens_s=round(1 / statistics.median(other.seconds for _, other in pairs), 1),
        plain_tokens_s=round(1 / statistics.median(one.seconds for one, _ in pairs), 1),
        ratio=round(statistics.median(one.seconds / other.seconds for one, other in pairs), 3),
    )


@contextmanager
def _loaded(spec: ModelSpec, store: ArtifactStore, way: Speculation) -> Generator[GraphGenerator]:
    """The model with one slot, warm, drafting in one way."""
    draft = spec.generation.draft if way is Speculation.DRAFT else ""
    table = msgspec.structs.replace(spec.generation, slots=1, speculation=way, draft=draft)
    model = load(msgspec.structs.replace(spec, generation=table), store)
    assert isinstance(model, GraphGenerator)
    try:
        model.warm()
        yield model
    finally:
        model.close()


def _prompts(model: GraphGenerator, decoder: Decoder | None) -> list[PreparedRow]:
    """Prompts that there is room for, as chats where the model has a template."""
    assert decoder is not None
    most = min(ARTICLE, decoder.context // 2)
    parts = [part[:most] for part in shipped.text("", "").split("\n\n") if len(part) > most // 3]
    texts = [f"{ask}\n\n{part}" for ask, part in zip(ASKS, parts, strict=False)]
    texts += shipped.PROMPTS[:2]
    rows: list[Row] = [
        ChatRow((Message("user", text),)) if decoder.chat else TextRow(text) for text in texts
    ]
    prepared = model.prepare(rows, truncate=False, options=Options(sampling=SAMPLING))
    return [one for one in prepared if isinstance(one, PreparedRow)]


def _write(model: GraphGenerator, prompt: PreparedRow) -> _Written:
    """Write a text alone."""
    engine = model.engine
    engine.submit(Wanted(0, prompt, SAMPLING))
    tokens: tuple[int, ...] = ()
    began, first, drafted, accepted = time.perf_counter(), 0, 0, 0
    while engine.busy:
        for delta in engine.step():
            if delta.error is not None:
                raise delta.error
            tokens += delta.tokens
            drafted, accepted = delta.drafted_tokens, delta.accepted_tokens
        if tokens and not first:
            began, first = time.perf_counter(), len(tokens)
    seconds = (time.perf_counter() - began) / max(len(tokens) - first, 1)
    return _Written(tokens, seconds, drafted, accepted)
