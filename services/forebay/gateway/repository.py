"""Models in workers, as a client sees and moves them: what is loaded, load, unload.

Only a worker that has several models in its set takes part. What serves one model is started and
stopped by whoever runs it.

A model that all its workers were told to unload is not served: who would wait for it is told so at
once. What nobody waits for still goes on its lane, and stays there until the model is loaded again.
"""

import asyncio
import contextlib
from typing import Final

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import Unavailable
from forebay.contract.workers import ModelCard, ModelState, Verb, WorkerCard
from forebay.gateway.reads import Reads
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.lanes.lane import unavailable
from forebay.lanes.orders import give
from forebay.lanes.roster import Roster
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands

WITHIN_S: Final = 60.0
"""How long an order is waited for."""

LOOK_S: Final = 1.0
"""How often it is looked what was unloaded by others than this gateway."""


class Standing(msgspec.Struct, frozen=True):
    """How a model stands with the workers.

    Attributes:
        state: the best that any of them has it in; `ready` if it is not up to them.
        reason: why it is not ready, if that is known.
        away: whether every worker that might have it was told to unload it.
    """

    state: ModelState = ModelState.READY
    reason: str = ""
    away: bool = False

    @property
    def answers(self) -> bool:
        """Whether a request would be answered, if only after a load."""
        return self.state in (ModelState.READY, ModelState.LOADING)


class ModelUnloaded(Unavailable):
    """An operator had the model unloaded wherever it was. Nothing was enqueued."""


class Repository:
    """The models that present workers have, or may load.

    Args:
        redis: client with a timeout.
        keys: key builder.
        reads: how to ask Redis outside the hot path.
        clock: the server's clock.
    """

    def __init__(self, redis: Commands, keys: Keys, reads: Reads, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._reads = reads
        self._clock = clock
        self._roster = Roster(redis, keys)
        self._away: frozenset[str] = frozenset()
        self._looks = asyncio.Lock()

    async def run(self) -> None:
        """Keep up with what is unloaded."""
        while True:
            with contextlib.suppress(Unavailable):  # what was known last holds
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """See what is unloaded. As a rule nothing is, and then it costs one look.

        Raises:
            Unavailable: Redis is out of reach.
        """
        async with self._looks:  # or an older view could take a newer one's place
            some = await self._reads.run(self._roster.has_away)
            standings = await self.standings() if some else {}
            self._away = frozenset(name for name, told in standings.items() if told.away)

    def check(self, model: str) -> None:
        """Refuse to wait for a model that is unloaded.

        Raises:
            ModelUnloaded: it is.
        """
        if model in self._away:
            raise ModelUnloaded(
                f"{model!r} was unloaded, and nothing is run until it is loaded again: by "
                f"`forebay workers load WORKER {model}`, or Triton's load."
            )

    async def why_idle(self, model: str) -> str:
        """Why nobody works for a model, as a sentence; empty if somebody does, or may soon."""
        try:
            keys, now_ms = self._keys.of(model), self._clock.now_ms()
            found = await self._reads.run(lambda: depth(self._redis, keys, now_ms=now_ms))
            if found.replicas:
                return ""
            standing = (await self.standings()).get(model)
        except Unavailable:
            return ""
        if standing is None:
            return f"There is no worker for {model!r}."
        if standing.answers:
            return ""
        return f"There is no worker for {model!r}: {standing.reason or 'it is being unloaded'}."

    async def standings(self) -> dict[str, Standing]:
        """By model, how it stands; a model that no present worker has a word on is left out.

        One that is absent but would be loaded with its first row is ready: it answers.

        Raises:
            Unavailable: Redis is out of reach.
        """
        told: dict[str, list[ModelCard]] = {}
        for card in await self._reads.run(self._roster.present):
            for model in card.models:
                told.setdefault(model.name, []).append(model)
        return {name: _standing(cards) for name, cards in told.items()}

    async def load(self, model: str) -> None:
        """Have a worker load a model, unless one has it, or none has it in its set.

        Raises:
            ForebayError: the worker could not, and says why.
            Unavailable: Redis is out of reach.
        """
        hosts = await self._hosts(model)
        states = {host.name: _of(host, model).state for host in hosts}
        if hosts and ModelState.READY not in states.values():
            await self._order(max(hosts, key=lambda host: _room(host, model)), Verb.LOAD, model)
            await self.look()

    async def unload(self, model: str) -> bool:
        """Have all workers unload a model, and not load it before they are told to.

        Returns:
            Whether that is how it is now; False if a worker has it that has no other.

        Raises:
            ForebayError: a worker could not, and says why.
            Unavailable: Redis is out of reach.
        """
        hosts = await self._hosts(model)
        if not hosts or any(len(host.models) == 1 for host in hosts):
            return False
        for host in hosts:
            await self._order(host, Verb.UNLOAD, model)
        await self.look()
        return True

    async def _hosts(self, model: str) -> list[WorkerCard]:
        cards = await self._reads.run(self._roster.present)
        return [card for card in cards if card.model(model) is not None]

    async def _order(self, host: WorkerCard, verb: Verb, model: str) -> None:
        # Not among the reads: it may take as long as a load.
        try:
            await give(
                self._redis,
                self._keys,
                host.name,
                verb,
                model,
                now_ms=self._clock.now_ms(),
                within_s=WITHIN_S,
            )
        except (RedisError, OSError) as error:
            raise unavailable() from error


def _standing(cards: list[ModelCard]) -> Standing:
    states = {card.state for card in cards}
    for state in (ModelState.READY, ModelState.LOADING):
        if state in states:
            return Standing(state)
    away = all(card.away for card in cards)
    willing = [card for card in cards if not card.away and not card.error]
    if willing:
        return Standing()
    if ModelState.UNLOADING in states:
        return Standing(ModelState.UNLOADING, away=away)
    errors = [card.error for card in cards if card.error and not card.away]
    return Standing(ModelState.ABSENT, errors[0].rstrip(".") if errors else "unloaded", away)


def _of(host: WorkerCard, model: str) -> ModelCard:
    found = host.model(model)
    assert found is not None
    return found


def _room(host: WorkerCard, model: str) -> tuple[bool, bool, int]:
    """How well a model would do there: where it is coming anyway, else where there is most room."""
    card = _of(host, model)
    spare = host.memory_bytes - host.rss_bytes
    return card.state is ModelState.LOADING, not host.memory_bytes, spare
