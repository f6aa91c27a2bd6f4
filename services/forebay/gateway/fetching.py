"""Inputs that a client names by their address, or by the id of a file that it has sent.

A file of ours is read where it lies, also where its address is given; anything else is fetched
under the rules of `egress`.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.files import FILE_ID
from forebay.egress.rules import Rules
from forebay.gateway.filing import Filing

if TYPE_CHECKING:
    from forebay.egress.client import Client

WITHIN_S: Final = 10.0
"""Longest that one file may take."""

AT_ONCE: Final = 8
"""Files that one request has fetched side by side."""


def is_address(text: str) -> bool:
    """Whether an input is to be fetched, rather than one that is there already."""
    if text[:8].lower().startswith(("http://", "https://")):
        return True
    return FILE_ID.fullmatch(text) is not None


class Fetcher:
    """Fetches inputs.

    Args:
        rules: what may be called.
        filing: the files that are here.
        max_bytes: largest that all inputs of one request together may be.
    """

    def __init__(self, rules: Rules, filing: Filing, *, max_bytes: int) -> None:
        self._rules = rules
        self._filing = filing
        self._max_bytes = max_bytes
        self._client: Client | None = None

    async def fetch(self, addresses: Mapping[str, str]) -> dict[str, bytes]:
        """What is at some addresses.

        Args:
            addresses: URLs and ids of files, by the field that holds each.

        Returns:
            By field.

        Raises:
            InvalidInput: there is no such file, one may not be called or did not answer with a file
                in time, or they are too large together; names its field.
            Unavailable: files can't be read now.
        """
        if not addresses:
            return {}
        found: dict[str, bytes] = {}
        left = self._max_bytes
        for param, named in addresses.items():
            content = await self._filing.read(named, max_bytes=left, param=param)
            if content is not None:
                found[param] = content
                left -= len(content)
        elsewhere = {param: url for param, url in addresses.items() if param not in found}
        return found | await self._fetched(elsewhere, left=left)

    async def _fetched(self, addresses: Mapping[str, str], *, left: int) -> dict[str, bytes]:
        if not addresses:
            return {}
        for param, url in addresses.items():
            self._rules.place(url, param=param)  # all of them, before any is called
        turns = asyncio.Semaphore(AT_ONCE)
        client = self._begun()

        async def one(param: str, url: str) -> bytes:
            nonlocal left
            try:
                async with turns:
                    found = await client.get(url, within_s=WITHIN_S, max_bytes=left, param=param)
            except ForebayError as error:
                raise _of(param, error) from error
            left -= len(found)
            if left < 0:
                raise InvalidInput(
                    f"The files of one request may have {self._max_bytes} bytes together.",
                    param=param,
                )
            return found

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    param: group.create_task(one(param, url)) for param, url in addresses.items()
                }
        except* InvalidInput as errors:
            raise _first(errors) from None
        return {param: task.result() for param, task in tasks.items()}

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _begun(self) -> "Client":
        # Imported when it is first needed: gateways that fetch nothing start a tenth of a second
        # sooner.
        from forebay.egress.client import Client

        if self._client is None:
            self._client = Client(self._rules)
        return self._client


def _of(param: str, error: ForebayError) -> InvalidInput:
    """Whoever named the address is told that it is of no use, whatever the reason."""
    if isinstance(error, InvalidInput):
        return InvalidInput(error.message, param=param)
    return InvalidInput(f"{param} can't be fetched: {error.message}", param=param)


def _first(errors: BaseExceptionGroup[InvalidInput]) -> InvalidInput:
    first = errors.exceptions[0]
    return first if isinstance(first, InvalidInput) else _first(first)
