"""The build of a model that generates text in PyTorch or vLLM: its weights in their precision.

What transformers loads without code from the folder, and whose layers are all of attention, is
built, whatever its family. It is measured as a worker of PyTorch runs it (`networks/decoder`),
beside PyTorch in FP32.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forebay.build import tracing
from forebay.build.decoders import measure, source, words
from forebay.build.decoders.pipeline import SAMPLES, room
from forebay.build.decoders.running import Ids, Logits, Written
from forebay.build.decoders.words import Words
from forebay.build.draft import Draft, Progress, manifest_of
from forebay.contract.errors import ArtifactError, BackendFailed, BuildFailed
from forebay.contract.manifest import Decoder
from forebay.contract.model import ModelSpec
from forebay.contract.network import Network
from forebay.networks.decoder import AUTO_CLASS, PART, TorchDecoder, open_decoder
from forebay.networks.network import save
from forebay.networks.slots import check_layers
from forebay.runtime import processor

_WRITTEN = 64
"""Room for what is written while it is measured, tokens."""


class NetworkRunner:
    """A network as a worker runs it, to be measured.

    Args:
        body: the model.
        rows: texts at once.
        capacity: tokens of each.
    """

    def __init__(self, body: Any, *, rows: int, capacity: int) -> None:
        self.decoder = TorchDecoder(body, slots=rows, capacity=capacity, chunk=PART)

    def logits(self, ids: Ids, *, slot: int = 0) -> Logits:
        """Logits at each of a text's tokens, `[tokens, vocabulary]`; it stays in a slot."""
        return np.concatenate(
            [
                self.decoder.read(slot, ids[start : start + PART], filled=start)
                for start in range(0, len(ids), PART)
            ]
        )

    def write(self, prompts: Sequence[Ids], *, tokens: int) -> Written:
        """Go on with prompts by the likeliest token each, side by side."""
        texts: list[list[int]] = []
        first_s = 0.0
        for slot, prompt in enumerate(prompts):
            began = time.perf_counter()
            texts.append([int(self.logits(prompt, slot=slot)[-1].argmax())])
            first_s = time.perf_counter() - began
        lengths = np.array([len(prompt) for prompt in prompts])
        step_s: list[float] = []
        for _ in range(tokens - 1):
            began = time.perf_counter()
            made = self.decoder.decode(0, np.array([text[-1] for text in texts]), lengths)
            lengths += 1
            for text, one in zip(texts, made, strict=True):
                text.append(int(one.argmax()))
            step_s.append(time.perf_counter() - began)
        return Written(texts, first_s, step_s)


def make(spec: ModelSpec, work: Path, progress: Progress) -> Draft:
    """Build a model that generates text from a network's weights.

    Args:
        spec: the model; its backend is `torch` or `vllm`.
        work: an empty folder.
        progress: told how far the build is.

    Raises:
        BuildFailed: a step failed, the model can't share slots, or they don't fit into memory.
        OSError: the disk is full or not writable.
    """
    threads = spec.threads or processor.cores()
    folder = work / "artifact"
    folder.mkdir()
    progress("source", 0.0)
    found = source.plain(spec, work)
    spoken = words.read(found.folder)
    spoken.save(folder)
    with tracing.quiet():
        save(tracing.load(AUTO_CLASS, found.folder), folder, precision=spec.precision)

    progress("evaluate", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tracing.quiet():
            return _measured(spec, found.folder, found.sha256, folder, spoken, progress)
    except (ArtifactError, BackendFailed) as error:
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        raise BuildFailed(
            f"{spec.name!r} can't be run over slots in PyTorch: {error.message}{reason}"
        ) from error
    finally:
        torch.set_num_threads(before)


def _measured(
    spec: ModelSpec, plain: Path, sha256: str, folder: Path, spoken: Words, progress: Progress
) -> Draft:
    body = open_decoder(folder, precision=spec.precision)
    check_layers(body.config)
    context = _context(body, plain)
    given = measure.prompts(spoken.tokenizer)
    capacity = max(measure.WINDOW, *(len(one) + _WRITTEN for one in given))
    runner = NetworkRunner(body, rows=measure.ROWS, capacity=min(capacity, context))
    decoder = describe(runner.decoder, context, spoken)
    longest = room(spec, decoder)
    text = measure.text(spec.folder, spec.build.evaluation)
    rows = measure.windows(spoken.tokenizer, text, context=context)
    reference = measure.Reference(plain)
    full = measure.read(reference, rows)
    progress("evaluate", 0.4)
    fluency = measure.fluency(full, runner, rows, given)
    progress("evaluate", 0.7)
    pace = measure.pace(runner, decoder, given, slots=spec.generation.slots, context=longest)
    speed = measure.speed(reference, pace, given, threads=torch.get_num_threads())
    manifest = manifest_of(
        spec,
        folder,
        source_sha256=sha256,
        samples=SAMPLES,
        network=Network(AUTO_CLASS),
        decoder=decoder,
    )
    return Draft(folder, manifest, fluency, speed, 4 * reference.parameters, pace=pace)


def describe(network: TorchDecoder, context: int, spoken: Words) -> Decoder:
    """How a network is run.

    Raises:
        BuildFailed: its layers' keys and values are of different sizes.
    """
    sizes = {
        (tensor.shape[1], tensor.shape[3])
        for layer in network.pool.layers
        for tensor in (layer.keys, layer.values)
    }
    if len(sizes) > 1:
        raise BuildFailed(
            f"This model's layers have keys and values of {len(sizes)} sizes, and slots have room "
            "for one: take a model whose layers are alike."
        )
    ((kv_heads, head_size),) = sizes
    return Decoder(
        layers=len(network.pool.layers),
        kv_heads=int(kv_heads),
        head_size=int(head_size),
        cache_type=network.cache_type,
        context=context,
        vocabulary=network.vocabulary,
        end_ids=spoken.end_ids,
        chat=spoken.template is not None,
        bos=spoken.bos,
        eos=spoken.eos,
    )


def _context(body: Any, folder: Path) -> int:
    """Most tokens of a text, by the model's configuration."""
    longest = getattr(body.config.get_text_config(), "max_position_embeddings", None)
    if not longest:
        raise BuildFailed(
            f"{folder / 'config.json'} doesn't say how long a text may be: set "
            "`max_position_embeddings` there."
        )
    return int(longest)
