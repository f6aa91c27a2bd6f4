"""Somebody who sends single texts at a steady pace, and waits for each answer: an open loop."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import httpx

from tests.bench.stats import percentile

TIMEOUT_S = 60.0


class Waiting:
    """Asks for embeddings, whatever becomes of those asked for before.

    Args:
        url: of the gateway.
        model: which.
        texts: no two alike.
        a_s: how many a second.
        headers: sent with each.

    Attributes:
        took_ms: of what was answered, in the order of the answers.
        failed: how many were not.
    """

    def __init__(
        self,
        url: str,
        model: str,
        texts: Sequence[str],
        *,
        a_s: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._url = f"{url}/v1/embeddings"
        self._model = model
        self._texts = iter(texts)
        self._a_s = a_s
        self._headers = dict(headers)
        self.took_ms: list[float] = []
        self.failed = 0

    async def run(self, until: asyncio.Event) -> None:
        """Send until told to end, then wait for what is under way."""
        begun = time.perf_counter()
        sent = 0
        client = httpx.AsyncClient(timeout=TIMEOUT_S, headers=self._headers)
        async with client, asyncio.TaskGroup() as group:
            while not until.is_set():
                group.create_task(self._ask(client, next(self._texts)))
                sent += 1
                await asyncio.sleep(begun + sent / self._a_s - time.perf_counter())

    async def for_s(self, seconds: float) -> None:
        """Send for so long."""
        end = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, end.set)
        await self.run(end)

    def ms(self, share: float) -> float:
        """A percentile of what was answered, milliseconds."""
        return percentile(sorted(self.took_ms), share)

    async def _ask(self, client: httpx.AsyncClient, text: str) -> None:
        begun = time.perf_counter()
        answer = await client.post(self._url, json={"model": self._model, "input": text})
        if answer.status_code == httpx.codes.OK:
            self.took_ms.append((time.perf_counter() - begun) * 1e3)
        else:
            self.failed += 1
