"""One text's place in its grammar."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from forebay.contract.errors import ForebayError, InvalidInput

Logits = npt.NDArray[np.float32]


class Guide:
    """Leaves only tokens that the grammar lets come next.

    Where the grammar is complete, that is one that ends the text.

    Args:
        matcher: at the text's beginning, and nobody else's.
        param: the request field that says what comes next.

    Attributes:
        fault: why the text can't go on, once it can't.
    """

    def __init__(self, matcher: LLMatcher, param: str) -> None:
        self._param = param
        self._matcher = matcher
        self.fault: ForebayError | None = None

    def apply(self, logits: Logits) -> None:
        """Set the logits of tokens that can't come next to minus infinity, `[vocabulary]`.

        After a `fault` all are no numbers.
        """
        # In error it gives a mask as well, of nothing.
        allowed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            self.fault = InvalidInput(
                "The format is too much work to hold this text to "
                f"({said(self._matcher.get_error())}): ask for a simpler one.",
                param=self._param,
            )
            logits.fill(np.nan)
            return
        bits = np.unpackbits(allowed, count=len(logits), bitorder="little")
        np.copyto(logits, np.float32(-np.inf), where=bits == 0)

    def add(self, token: int) -> None:
        """The text has one token more."""
        self._matcher.consume_token(token)


def said(error: str) -> str:
    """What llguidance says of an error, on one line."""
    return " ".join(error.split("\n<non-verbose/>")[0].split())
