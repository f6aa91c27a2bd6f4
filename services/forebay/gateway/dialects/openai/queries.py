"""Parameters of a GET: an unknown one is refused, as a field of a body is."""

from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from forebay.contract.errors import InvalidInput
from forebay.gateway.http import Call


def query_of(call: Call, taken: Collection[str]) -> dict[str, str]:
    """A request's query; of what is there twice the last counts.

    Args:
        call: the request.
        taken: names of the parameters that there are.

    Raises:
        InvalidInput: there is another.
    """
    text = call.scope["query_string"].decode("latin-1")
    found = dict(parse_qsl(text, keep_blank_values=True))
    for name in found:
        if name not in taken:
            raise InvalidInput(
                f"{name[:80]!r} is no parameter of this request: it takes "
                f"{', '.join(sorted(taken))}.",
                param=name[:80],
            )
    return found


def limit_of(query: Mapping[str, str], *, usual: int, most: int) -> int:
    """How many things a page may have.

    Args:
        query: of the request.
        usual: without the parameter.
        most: that may be asked for.

    Raises:
        InvalidInput: it is no number, or beyond that.
    """
    text = query.get("limit")
    if text is None:
        return usual
    # Cut, since int() reads no number of thousands of digits.
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= most):
        raise InvalidInput(
            f"limit is {text[:80]!r}; it must be a number from 1 to {most:,}.", param="limit"
        )
    return int(text[:9])


def flag_of(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter says `true`; one that isn't there says `false`.

    Raises:
        InvalidInput: it says something else.
    """
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidInput(f"{name} is {text[:80]!r}; it must be true or false.", param=name)
    return text == "true"
