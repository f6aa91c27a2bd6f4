"""Penalties and biases of one request: what its own tokens do to its next logits."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.contract.generation import Sampling

Logits = npt.NDArray[np.float32]


class Penalties:
    """Changes logits by what the prompt and the text have.

    In this order: repetition (Keskar et al., "CTRL", 2019: of the prompt's tokens and the text's),
    presence and frequency (OpenAI's: of the text's alone), then biases.

    Args:
        sampling: of the request.
        prompt: its token ids.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._repetition = np.float32(sampling.repetition_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        self._repeats = sampling.repetition_penalty != 1
        self._counts = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._seen = _Tally(prompt if self._repeats else ())
        self._written = _Tally(())

    @property
    def idle(self) -> bool:
        """Whether logits stay as they are."""
        return not (self._repeats or self._counts or len(self._biased))

    def add(self, token: int) -> None:
        """The text has one token more."""
        if self._repeats:
            self._seen.add(token)
        if self._counts:
            self._written.add(token)

    def apply(self, logits: Logits) -> None:
        """Change the logits of the next token, float32 `[vocabulary]`, in place."""
        if self._repeats:
            seen = self._seen.tokens
            values = logits[seen]
            logits[seen] = np.where(
                values > 0, values / self._repetition, values * self._repetition
            )
        if self._counts:
            tokens, counts = self._written.tokens, self._written.counts
            logits[tokens] -= self._presence + self._frequency * counts
        if len(self._biased):
            logits[self._biased] += self._biases


class _Tally:
    """How often each token was added, in arrays that grow."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._places: dict[int, int] = {}
        self._tokens = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)
        for token in tokens:
            self.add(token)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        return self._tokens[: len(self._places)]

    @property
    def counts(self) -> npt.NDArray[np.float32]:
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.zeros_like(self._tokens)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._tokens[place] = token
        self._counts[place] += 1
