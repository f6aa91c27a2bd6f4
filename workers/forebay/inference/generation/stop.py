"""Stop strings, found across the borders of tokens."""

from collections.abc import Sequence


class StopStrings:
    """Passes a text on as it grows, up to the first stop string.

    What comes out does not depend on how the text was cut: the stop string that is complete first
    ends it, the longest of those that end together. Held back is no more than what may still
    become one.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found = False

    def add(self, text: str) -> str:
        """Take more of the text; gives what may be told of it. After `found` that is all of it."""
        if not self._stops:
            return text
        text = self._held + text
        occurrences = [
            (place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0
        ]
        if occurrences:
            _, place = min(occurrences)
            self.found, self._held = True, ""
            return text[:place]
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """The text ended otherwise: gives what was held back."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of the text that a stop string begins with."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
