"""What is used of vLLM: what its engine is asked, and what of its outputs is read."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Probability(Protocol):
    """One of vLLM's logprobs."""

    @property
    def logprob(self) -> float:
        """Natural logarithm."""
        ...


class Piece(Protocol):
    """What a step added to a request."""

    @property
    def token_ids(self) -> Sequence[int]:
        """Those that are new."""
        ...

    @property
    def logprobs(self) -> Sequence[Mapping[int, Probability]] | None:
        """Of each of them, by token id: its own and the most likely ones."""
        ...


class Output(Protocol):
    """A request after a step."""

    @property
    def request_id(self) -> str:
        """As it was added."""
        ...

    @property
    def outputs(self) -> Sequence[Piece]:
        """One, as one was asked for."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing follows."""
        ...

    @property
    def num_cached_tokens(self) -> int | None:
        """How many of the prompt's were not computed again."""
        ...


class Core(Protocol):
    """The process that computes."""

    def shutdown(self) -> None:
        """End it."""
        ...


class Served(Protocol):
    """What is used of `vllm.LLMEngine`."""

    @property
    def engine_core(self) -> Core:
        """The process that computes."""
        ...

    def add_request(
        self, request_id: str, prompt: Any, params: Any, *, priority: int = 0
    ) -> object:
        """Take a request in."""
        ...

    def abort_request(self, request_ids: list[str]) -> None:
        """Drop requests; those that are not there are no error."""
        ...

    def step(self) -> Sequence[Any]:
        """Compute, and give `Output`s."""
        ...
