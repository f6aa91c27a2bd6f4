"""Who is next: texts that wait for a slot."""

from collections import deque

from forebay.inference.generation.stream import Stream


class Waiting:
    """Texts that wait: urgent ones, then those that had a slot and gave it up, then the others."""

    def __init__(self) -> None:
        self._urgent: deque[Stream] = deque()
        self._interrupted: deque[Stream] = deque()
        self._others: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self._urgent or self._interrupted or self._others)

    @property
    def urgent(self) -> bool:
        """Whether somebody who waits has no slot."""
        return bool(self._urgent)

    def add(self, stream: Stream) -> None:
        """One more waits."""
        (self._urgent if stream.wanted.urgent else self._others).append(stream)

    def interrupted(self, stream: Stream) -> None:
        """One that gave up its slot: the last to come gives it up first, and goes on last."""
        self._interrupted.appendleft(stream)

    @property
    def others(self) -> bool:
        """Whether one that nobody waits for has no slot."""
        return bool(self._interrupted or self._others)

    def next(self, *, urgent: bool = True) -> Stream:
        """The first; there is one.

        Args:
            urgent: take an urgent one if there is any; else there is one of the others.
        """
        return ((urgent and self._urgent) or self._interrupted or self._others).popleft()

    def drop(self, id_: int) -> bool:
        """Forget one; False where it doesn't wait."""
        for queue in (self._urgent, self._interrupted, self._others):
            for stream in queue:
                if stream.wanted.id == id_:
                    queue.remove(stream)
                    return True
        return False
