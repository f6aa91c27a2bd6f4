"""vLLM behind the protocol of engines: it schedules, computes and samples; texts are made here.

vLLM's own loop is stepped by the thread that steps any engine: `LLMEngine` is the synchronous twin
of `AsyncLLM`, with the same core, in a process of its own (decision 0046).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from forebay.contract.errors import BackendFailed, ForebayError, Interrupted
from forebay.contract.generation import Sampling
from forebay.inference.generation.protocol import Delta, Wanted
from forebay.inference.generation.sampling import GREEDY_BELOW, Chosen
from forebay.inference.generation.served import Output, Probability, Served
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.generation.writer import Writer

URGENT: Final = 0
LATER: Final = 1
"""Priorities of vLLM: the lower goes first, and takes the other's memory."""

_STEP_OF_SEEDS: Final = 0x9E37_79B9_7F4A_7C15
_SEEDS: Final = 1 << 63


class _Text:
    """One text as it grows."""

    __slots__ = ("cached", "prompt_tokens", "wanted", "writer")

    def __init__(self, wanted: Wanted, writer: Writer) -> None:
        self.wanted = wanted
        self.writer = writer
        self.prompt_tokens = wanted.prompt.length
        self.cached = 0

    def delta(self) -> Delta | None:
        delta = self.writer.delta(self.wanted.id)
        if delta is None or delta.finish is None:
            return delta
        return msgspec.structs.replace(
            delta, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached
        )


class VllmEngine:
    """Generates texts side by side; see `protocol.Engine`.

    Args:
        served: vLLM's engine.
        params: makes its sampling parameters, `vllm.SamplingParams`.
        vocabulary: what tokens stand for.
        end_ids: tokens that end a text.
        slots: how many urgent texts grow at once.
        capacity: tokens of a prompt and its text together.
    """

    def __init__(
        self,
        served: Served,
        params: Callable[..., object],
        vocabulary: Vocabulary,
        end_ids: Collection[int],
        *,
        slots: int,
        capacity: int,
    ) -> None:
        self.slots = slots
        self._served = served
        self._params = params
        self._vocabulary = vocabulary
        self._end_ids = tuple(end_ids)
        self._capacity = capacity
        self._texts: dict[str, _Text] = {}
        # What needs no step of vLLM's to be told.
        self._over: list[Delta] = []

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._texts or self._over)

    def submit(self, wanted: Wanted) -> None:
        """Take a request in. One that was begun elsewhere goes on after what was written there."""
        sampling = wanted.sampling
        prompt: list[int] = np.asarray(wanted.prompt.data, np.int64).tolist()
        room = self._capacity - len(prompt)
        most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        text = _Text(
            wanted,
            Writer(sampling, self._vocabulary, end_ids=self._end_ids, max_tokens=most),
        )
        text.writer.replay(wanted.written)
        if text.writer.finish is not None:
            self._over += [delta for delta in (text.delta(),) if delta is not None]
            return
        if wanted.written and not _goes_on(sampling):
            self._fail(wanted.id, Interrupted())
            return
        request = str(wanted.id)
        try:
            params = self._params(
                **parameters(
                    sampling,
                    row=wanted.row,
                    end_ids=self._end_ids,
                    max_tokens=most - len(wanted.written),
                )
            )
            self._served.add_request(
                request,
                {"prompt_token_ids": [*prompt, *wanted.written]},
                params,
                priority=URGENT if wanted.urgent else LATER,
            )
        except ValueError as error:  # what vLLM says of requests that it doesn't take
            failed = BackendFailed("vLLM doesn't take this request.")
            failed.__cause__ = error
            self._fail(wanted.id, failed)
            return
        self._texts[request] = text

    def cancel(self, id_: int) -> None:
        """Drop a request, if it is there."""
        if self._texts.pop(str(id_), None) is not None:
            self._served.abort_request([str(id_)])
        self._over = [delta for delta in self._over if delta.id != id_]

    def step(self) -> Sequence[Delta]:
        """Have vLLM compute, and put together what came of it."""
        deltas, self._over = self._over, []
        if self._texts:
            deltas += [delta for one in self._served.step() if (delta := self._take(one))]
        return deltas

    def _take(self, output: Output) -> Delta | None:
        text = self._texts.get(output.request_id)
        if text is None:  # canceled while it was computed
            return None
        text.cached = output.num_cached_tokens or text.cached
        writer, (piece,) = text.writer, output.outputs
        for place, token in enumerate(piece.token_ids):
            told = piece.logprobs[place] if piece.logprobs else {}
            writer.add(chosen(token, told, text.wanted.sampling.logprobs))
            if writer.finish is not None:
                break
        if writer.finish is None and output.finished:
            del self._texts[output.request_id]
            return Delta(
                text.wanted.id,
                error=BackendFailed("vLLM ended this text before its end."),
            )
        if writer.finish is not None:
            del self._texts[output.request_id]
            if not output.finished:
                self._served.abort_request([output.request_id])
        return text.delta()

    def _fail(self, id_: int, error: ForebayError) -> None:
        self._over.append(Delta(id_, error=error))


def parameters(
    sampling: Sampling, *, row: int, end_ids: Collection[int], max_tokens: int
) -> dict[str, Any]:
    """What a request asks for, as `vllm.SamplingParams` names it.

    Stop strings are found here and not there, as the text is put together here.

    Args:
        sampling: what it asks for.
        row: which row of its prediction; each has a seed of its own.
        end_ids: tokens that end a text.
        max_tokens: most tokens to generate.
    """
    made: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": 0.0 if sampling.temperature < GREEDY_BELOW else sampling.temperature,
        "top_p": sampling.top_p or 1.0,
        # None of the probability is what the likeliest token has to itself.
        "top_k": sampling.top_k if sampling.top_p else 1,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logprobs": sampling.logprobs,
        "ignore_eos": sampling.ignore_end,
        "stop_token_ids": [] if sampling.ignore_end else sorted(end_ids),
        "detokenize": False,
    }
    if sampling.logit_bias:
        made["logit_bias"] = dict(sampling.logit_bias)
    if sampling.seed is not None:
        made["seed"] = (sampling.seed + row * _STEP_OF_SEEDS) % _SEEDS
    return made


def chosen(token: int, told: Mapping[int, Probability], most: int | None) -> Chosen:
    """A token with its logprobs, of what vLLM tells of it.

    Args:
        token: that was chosen.
        told: its own logprob, and those of the most likely tokens.
        most: how many of those were asked for; None for none, nor its own.
    """
    if most is None or token not in told:
        return Chosen(token)
    best = sorted(told.items(), key=lambda one: -one[1].logprob)[:most]
    top = tuple((id_, one.logprob) for id_, one in best)
    return Chosen(token, told[token].logprob, top)


def _goes_on(sampling: Sampling) -> bool:
    """Whether vLLM would go on as it would have, had it written the beginning too.

    What was written is part of the prompt then: its draws begin anew, and penalties for what the
    text has don't know of it.
    """
    greedy = sampling.temperature < GREEDY_BELOW
    seeded = sampling.seed is not None and not greedy
    return not (seeded or sampling.presence_penalty or sampling.frequency_penalty)
