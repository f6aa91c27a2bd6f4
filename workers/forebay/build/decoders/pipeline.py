"""The build of a model that generates text: from its source to a draft, step by step."""

import json
from pathlib import Path

from forebay.build.decoders import graph, measure, source, words
from forebay.build.decoders.running import Runner
from forebay.build.draft import Draft, Progress, manifest_of
from forebay.build.graph import MODEL_FILE
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Decoder
from forebay.contract.model import ModelSpec
from forebay.runtime import memory, processor

SAMPLES = (
    "ready",
    "A forebay is the pool ahead of a turbine: it takes water as it comes, and",
)
"""What a worker goes on from before it reports ready; kept in the manifest."""


def make(spec: ModelSpec, work: Path, progress: Progress) -> Draft:
    """Build a model that generates text.

    Args:
        spec: the model.
        work: an empty folder.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed, or the model's slots don't fit into this machine's memory.
        OSError: the disk is full or not writable.
    """
    threads = spec.threads or processor.cores()
    folder = work / "artifact"
    folder.mkdir()
    progress("source", 0.0)
    found = source.find(spec, work)
    spoken = words.read(found.folder)
    spoken.save(folder)
    config = json.loads((found.folder / "config.json").read_text("utf-8"))
    heads = int(config.get("num_attention_heads", 0))
    threads = min(threads, heads) if heads else threads  # as a worker has it
    text = measure.text(spec.folder, spec.build.evaluation)
    # What can't come out well is refused before the long part.
    _fits(spec, int(config["max_position_embeddings"]))
    rows = measure.windows(spoken.tokenizer, text, context=int(config["max_position_embeddings"]))

    progress("export", 0.0)
    graph.make(found.folder, folder, precision=spec.precision, work=work)
    path = folder / MODEL_FILE
    decoder = graph.describe(path, config, spoken)
    context = room(spec, decoder)

    progress("evaluate", 0.0)
    given = measure.prompts(spoken.tokenizer)
    reference = measure.Reference(found.folder)
    full = measure.read(reference, rows)
    progress("evaluate", 0.4)
    runner = Runner(path, decoder, threads=threads)
    fluency = measure.fluency(full, runner, rows, given)
    progress("evaluate", 0.7)
    pace = measure.pace(runner, decoder, given, slots=spec.generation.slots, context=context)
    speed = measure.speed(reference, pace, given, threads=threads)
    manifest = manifest_of(
        spec,
        folder,
        source_sha256=found.sha256,
        samples=SAMPLES,
        decoder=decoder,
        tools=spoken.tools,
        heads=heads,
    )
    fp32_bytes = 4 * reference.parameters
    return Draft(folder, manifest, fluency, speed, fp32_bytes, pace=pace)


def _fits(spec: ModelSpec, longest: int) -> None:
    """Refuse slots that are longer than what the model was made for."""
    asked = spec.generation.context
    if asked > longest:
        raise BuildFailed(
            f"models.{spec.name}.generation.context is {asked:,}, and this model was made for "
            f"{longest:,} tokens: ask for no more, or leave it out."
        )


def room(spec: ModelSpec, decoder: Decoder) -> int:
    """Tokens of a slot.

    Raises:
        BuildFailed: they are more than the model was made for, or all slots together don't fit into
            this machine's memory.
    """
    _fits(spec, decoder.context)
    context, slots = spec.generation.context or decoder.context, spec.generation.slots
    wanted, there = slots * context * decoder.token_bytes, memory.total_bytes()
    if wanted > there:
        raise BuildFailed(
            f"{spec.name!r} has {slots} slots of {context:,} tokens, and {decoder.token_bytes:,} "
            f"bytes a token come to {wanted / 1e9:.1f} GB, where this machine has "
            f"{there / 1e9:.1f} GB: lower models.{spec.name}.generation.slots or `context`."
        )
    return context
