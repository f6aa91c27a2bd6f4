"""The same texts with nothing around them: a bare decode loop, the engine alone, transformers.

The bare loop steps the graph and takes the likeliest tokens, and does nothing else; the engine does
everything that it does for requests; transformers generates a static batch, in FP32.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forebay.contract.generation import Sampling
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.session import DecoderSession, Ids


def bare(session: DecoderSession, prompts: Sequence[Ids], *, tokens: int) -> float:
    """Tokens a second of a bare loop's steps, after the first tokens."""
    last = np.zeros(len(prompts), np.int64)
    filled = np.array([len(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        for start in range(0, len(prompt), session.chunk):
            part = prompt[start : start + session.chunk]
            last[row] = session.prefill(row, part, filled=start).argmax()
    began = time.perf_counter()
    for _ in range(tokens - 1):
        last = session.decode(0, last, filled).argmax(-1)
        filled += 1
    return len(prompts) * (tokens - 1) / (time.perf_counter() - began)


def engined(engine: ContinuousEngine, prompts: Sequence[Ids], *, tokens: int) -> float:
    """Tokens a second of the engine's steps, after all have their first tokens."""
    sampling = Sampling(max_tokens=tokens, temperature=0, ignore_end=True)
    for id_, prompt in enumerate(prompts):
        engine.submit(Wanted(id_, PreparedRow(len(prompt), prompt), sampling))
    begun: set[int] = set()
    while len(begun) < len(prompts):
        begun.update(delta.id for delta in engine.step())
    count, began = 0, time.perf_counter()
    while engine.busy:
        count += sum(len(delta.tokens) for delta in engine.step())
    return count / (time.perf_counter() - began)


def transformers_static(folder: Path, threads: int) -> Callable[..., float]:
    """What measures `generate` on prompts padded on the left: tokens a second, prompts included.

    Args:
        folder: of FP32 weights.
        threads: of PyTorch.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    known: Any = AutoModelForCausalLM
    model = known.from_pretrained(folder, dtype=torch.float32).eval()

    def run(prompts: Sequence[Ids], *, tokens: int) -> float:
        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens,
                do_sample=False, pad_token_id=0,
            )  # fmt: skip
        return len(prompts) * tokens / (time.perf_counter() - began)

    return run
