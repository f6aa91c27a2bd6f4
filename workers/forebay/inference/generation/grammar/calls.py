"""Calls of tools, read out of a text as it grows."""

from enum import Enum, auto

from forebay.contract.tools import CallPiece, ToolForm


class _Place(Enum):
    """Where in a text the reader is."""

    BEGINNING = auto()
    TEXT = auto()
    NAME = auto()
    ARGUMENTS = auto()
    AFTER = auto()
    END = auto()


class CallReader:
    """Takes a text apart: what is said, and calls.

    What comes out does not depend on how the text was cut. It relies on the grammar that the text
    was held to (`lark`): what begins as a call is one, unless the text was cut off.

    Args:
        form: how the model writes calls.
    """

    def __init__(self, form: ToolForm) -> None:
        self._form = form
        self._place = _Place.TEXT if form.marker else _Place.BEGINNING
        self._held = ""
        self._calls = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def called(self) -> bool:
        """Whether there is a call, and none that is half told."""
        return self._calls > 0 and self._place in (_Place.AFTER, _Place.END)

    def add(self, text: str) -> tuple[str, list[CallPiece]]:
        """Take more of the text; gives what is said, and pieces of calls."""
        self._held += text
        said: list[str] = []
        pieces: list[CallPiece] = []
        while self._held and self._go_on(said, pieces):
            pass
        return "".join(said), pieces

    def end(self) -> str:
        """The text has ended: gives what was held back and is no call."""
        held, self._held = self._held, ""
        match self._place:
            case _Place.NAME:  # cut off before it called anything
                return held if self._calls else self._form.before + held
            case _Place.BEGINNING | _Place.TEXT:
                return held
            case _:
                return ""

    def _go_on(self, said: list[str], pieces: list[CallPiece]) -> bool:
        """Go as far as one place reaches; False where more of the text is needed."""
        match self._place:
            case _Place.BEGINNING:
                return self._begin()
            case _Place.TEXT:
                return self._say(said)
            case _Place.NAME:
                return self._name(pieces)
            case _Place.ARGUMENTS:
                return self._argue(pieces)
            case _Place.AFTER:
                return self._follow()
            case _Place.END:
                self._held = ""
                return False

    def _begin(self) -> bool:
        before = self._form.before
        if self._held.startswith(before):
            self._take(len(before))
            self._place = _Place.NAME
            return True
        if before.startswith(self._held):
            return False
        self._place = _Place.TEXT
        return True

    def _say(self, said: list[str]) -> bool:
        before, marker, held = self._form.before, self._form.marker, self._held
        at = held.find(marker) if marker else -1
        if at < 0:
            keep = _beginning(held, marker)
            # Space before a call is none of what is said; more of the text tells.
            end = len(held[: len(held) - keep].rstrip()) if marker else len(held)
            said.append(self._take(end))
            return False
        said.append(self._take(at).rstrip())
        if not self._held.startswith(before):
            return False
        self._take(len(before))
        self._place = _Place.NAME
        return True

    def _name(self, pieces: list[CallPiece]) -> bool:
        at = self._held.find(self._form.middle)
        if at < 0:
            return False
        pieces.append(CallPiece(self._calls, name=self._take(at)))
        self._take(len(self._form.middle))
        self._calls += 1
        self._place = _Place.ARGUMENTS
        return True

    def _argue(self, pieces: list[CallPiece]) -> bool:
        end = len(self._held)
        for at, letter in enumerate(self._held):
            self._read(letter)
            if not self._depth:
                end, self._place = at + 1, _Place.AFTER
                break
        pieces.append(CallPiece(self._calls - 1, arguments=self._take(end)))
        return True

    def _read(self, letter: str) -> None:
        """Keep count of what is open in a JSON object."""
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = letter == "\\"
            self._in_string = letter != '"'
        elif letter == '"':
            self._in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1

    def _follow(self) -> bool:
        between = self._form.between
        if between and self._held.startswith(between):
            self._take(len(between))
            self._place = _Place.NAME
            return True
        if between.startswith(self._held):
            return False
        self._place = _Place.END
        return True

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def _beginning(text: str, marker: str) -> int:
    """Length of the longest end of a text that a marker begins with."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0
