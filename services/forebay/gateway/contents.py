"""What is said in a message: a text, or parts that are texts."""

from collections.abc import Sequence
from typing import Protocol

from forebay.contract.errors import InvalidInput


class Part(Protocol):
    """A part of a message, whatever dialect it comes by."""

    @property
    def type(self) -> str:
        """What it is."""
        ...

    @property
    def text(self) -> str | None:
        """What it says, where it is a text."""
        ...


def text_of(content: str | Sequence[Part] | None, where: str, *, types: Sequence[str]) -> str:
    """The text of a content; parts are put together line by line.

    Args:
        content: as it came.
        where: the field that holds it.
        types: of parts that are texts; the first is the one to send.

    Raises:
        InvalidInput: there is nothing, or a part is no text; `param` names it.
    """
    if isinstance(content, str):
        return content
    if not content:
        raise InvalidInput(
            f"{where} must be a text, or a list of parts of type {types[0]!r}.", param=where
        )
    texts: list[str] = []
    for at, part in enumerate(content):
        if part.type not in types:
            raise InvalidInput(
                f"{where}[{at}] is of type {part.type[:80]!r}, and this model reads text only: "
                f"send parts of type {types[0]!r}.",
                param=f"{where}[{at}].type",
            )
        if part.text is None:
            raise InvalidInput(
                f"Missing parameter: '{where}[{at}].text'.", param=f"{where}[{at}].text"
            )
        texts.append(part.text)
    return "\n".join(texts)
