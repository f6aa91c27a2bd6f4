"""The bound on texts that are put beside several others: each pair carries both of its texts."""

from typing import Final

from forebay.contract.errors import InvalidInput

MAX_PAIRED_CHARACTERS: Final = 10_000_000
"""Characters that texts may come to once each is put beside all that it is held against."""


def check_size(characters: int, *, param: str) -> None:
    """Refuse a text that would be sent too often.

    Args:
        characters: what it comes to, over all of its pairs.
        param: the field that holds it.

    Raises:
        InvalidInput: that is over `MAX_PAIRED_CHARACTERS`.
    """
    if characters > MAX_PAIRED_CHARACTERS:
        raise InvalidInput(
            f"{param} comes to {characters:,} characters once it is beside all that it is held "
            f"against; one request takes {MAX_PAIRED_CHARACTERS:,} at most: send fewer at a time.",
            param=param,
        )
