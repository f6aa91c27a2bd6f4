"""Lists in pages: what a request asks for, and a page as Replicate tells it.

    {"previous": address or null, "next": address or null, "results": […]}

The addresses are whole, so that a client follows them as they are.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.gateway.http import to_json
from forebay.gateway.listings import Created, Cursor, Page

NAMED_PAGE: Final = 100
"""Models, and other things with names, of a page."""

_CREATED: Final = ("created_after", "created_before")


class PageBody(msgspec.Struct, frozen=True):
    """A page."""

    previous: str | None
    next: str | None
    results: Sequence[Any]


class Asked(msgspec.Struct, frozen=True):
    """What a request for a list of predictions asks for.

    Attributes:
        cursor: where the page begins; None for the first.
        created: when they were created.
        kept: parameters that the pages beside it have as well.
    """

    cursor: Cursor | None
    created: Created
    kept: dict[str, str]


def read(query: bytes) -> Asked:
    """Read the query of a request for predictions.

    Raises:
        InvalidInput: a parameter is wrong, or unknown; the error names it.
    """
    given = _parameters(query, ("cursor", *_CREATED))
    cursor = given.pop("cursor", "")
    times = {f"{name.removeprefix('created_')}_ms": _ms(name, text) for name, text in given.items()}
    return Asked(Cursor.parse(cursor) if cursor else None, Created(**times), given)


def body(page: Page, asked: Asked, url: str) -> bytes:
    """A page of predictions, as JSON.

    Args:
        page: as it was found.
        asked: what was asked for.
        url: of the list.
    """

    def address(cursor: Cursor | None) -> str | None:
        if cursor is None:
            return None
        return f"{url}?{urlencode({'cursor': cursor.text, **asked.kept})}"

    results = [msgspec.Raw(one) for one in page.results]
    return to_json(PageBody(address(page.previous), address(page.next), results))


def named(query: bytes, names: Collection[str], url: str, render: Callable[[str], Any]) -> bytes:
    """A page of things that have names, in their order, as JSON.

    Args:
        query: of the request; its cursor is the name before the page.
        names: of all there are.
        url: of the list.
        render: a thing by its name.

    Raises:
        InvalidInput: a parameter is wrong, or unknown; the error names it.
    """
    found = sorted(names)
    first = bisect_right(found, _name(_parameters(query, ("cursor",)).get("cursor", "")))
    last = first + NAMED_PAGE

    def address(at: int) -> str:
        before = found[at - 1] if at else ""
        cursor = base64.urlsafe_b64encode(before.encode()).decode().rstrip("=")
        return f"{url}?{urlencode({'cursor': cursor})}" if cursor else url

    return to_json(
        PageBody(
            address(max(first - NAMED_PAGE, 0)) if first else None,
            address(last) if last < len(found) else None,
            [render(name) for name in found[first:last]],
        )
    )


def _parameters(query: bytes, known: Collection[str]) -> dict[str, str]:
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"This list takes no {name[:80]!r}: only {', '.join(known)}.", param=name[:80]
            )
    return given


def _ms(name: str, text: str) -> int:
    """A time as Unix ms; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{name} takes a time by ISO 8601, such as 2026-11-22T20:15:00Z.", param=name
        ) from None
    seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return max(int(seconds * 1000), 0)  # nothing was created before 1970


def _name(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidInput(
            "This is no cursor of this list: take the `next` or `previous` of a page as it is.",
            param="cursor",
        ) from None
