"""Runs examples through a running gateway, as any client would."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from forebay.assess.forms.base import Example
from forebay.assess.local import Answer
from forebay.cli.predict import ask
from forebay.contract.errors import BackendFailed, ForebayError, InvalidInput, Unavailable

AT_ONCE = 16
"""Requests under way at once: enough to fill a micro-batch of most models on a CPU."""

WAIT_S = 60.0


class Served:
    """A gateway.

    Args:
        url: where it is.
        model: its name there.
    """

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._version = ""

    @property
    def version(self) -> str:
        """What the gateway has told with the last answer."""
        return self._version

    def answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Answer]]:
        """Send examples, `AT_ONCE` at a time."""
        source = iter(examples)
        under_way: deque[tuple[Example, Future[Answer]]] = deque()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask") as threads:
            for example in islice(source, AT_ONCE):
                under_way.append((example, threads.submit(self._answer, example)))
            while under_way:
                example, future = under_way.popleft()
                for following in islice(source, 1):
                    under_way.append((following, threads.submit(self._answer, following)))
                yield example, future.result()

    def _answer(self, example: Example) -> Answer:
        try:
            told = ask(self._url, self._model, example.input, wait_s=WAIT_S)
        except Unavailable as error:
            return Answer(error=error)
        except ForebayError as error:
            return Answer(error=InvalidInput(error.message))
        if told["status"] != "succeeded":
            why = told.get("error") or f"it is {told['status']} after {WAIT_S:.0f} s"
            return Answer(error=BackendFailed(str(why)))
        self._version = str(told.get("version", "")).rpartition(":")[2]
        return Answer(told["output"])
