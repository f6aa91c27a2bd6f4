"""Looks at models once a second, and at once when one is woken; has done what the policy says."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.autoscaler.policy import Decision, Goals, Policy, Sample
from forebay.autoscaler.sampler import Sampler
from forebay.autoscaler.targets.base import Target
from forebay.contract.model import ModelSpec
from forebay.lanes.keys import Keys
from forebay.lanes.scaling import KEPT_MS, Wanted, tell
from forebay.lanes.wakes import Wakes

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
"""Between looks at a model that nobody wakes."""

TELL_S: Final = KEPT_MS / 3000
"""How often it is told what is wanted, though nothing has changed."""


class _Scaled:
    """A model that is looked at: its policy, and what was last told of it."""

    def __init__(self, spec: ModelSpec) -> None:
        self.policy = Policy(Goals.of(spec))
        self.told: Wanted | None = None
        self.tell_at = 0.0


class Autoscaler:
    """Gives models as many replicas as they need.

    Args:
        redis: client with a timeout.
        blocking: client for a subscription.
        keys: key builder.
        models: specs by what they are served under; at least one.
        target: starts and ends replicas.
    """

    def __init__(
        self,
        redis: Redis,
        blocking: Redis,
        keys: Keys,
        models: Mapping[str, ModelSpec],
        target: Target,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._sampler = Sampler(redis, keys)
        self._target = target
        self._models = {name: _Scaled(spec) for name, spec in models.items()}
        self._wakes = Wakes(blocking, keys, models, woken=self._woken)
        self._awake: set[str] = set()
        self._look_now = asyncio.Event()
        self._troubled = False

    async def run(self) -> None:
        """Scale until cancelled, through any number of outages of Redis.

        While Redis is away nothing is started or ended.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wakes.run(), name="wakes")
            group.create_task(self._scale(), name="scale")

    def _woken(self, models: Iterable[str]) -> None:
        self._awake.update(models)
        self._look_now.set()

    async def _scale(self) -> None:
        all_at = 0.0
        while True:
            self._look_now.clear()
            models, self._awake = self._awake, set()
            if time.monotonic() >= all_at:
                models, all_at = set(self._models), time.monotonic() + TICK_S
            try:
                for model in sorted(models):
                    await self._look(model)
            except (RedisError, OSError) as error:
                if not self._troubled:
                    log.warning("replicas stay as they are while Redis can't be asked: %s", error)
                self._troubled = True
            else:
                self._troubled = False
            try:
                async with asyncio.timeout(all_at - time.monotonic()):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def _look(self, model: str) -> None:
        seen = await self._sampler.look(model)
        scaled = self._models[model]
        before = self._target.started(model, seen.present)
        sample = Sample(
            time.monotonic(),
            realtime=seen.depth.realtime,
            bulk=seen.depth.bulk,
            entered=seen.entered,
            replicas=before,
            busy=self._target.busy(model, seen.present),
            rate=seen.rate,
        )
        decision = scaled.policy.decide(sample)
        self._target.scale(model, decision.replicas, seen.present)
        started = self._target.started(model, seen.present)
        if started != before:
            log.info(
                "%s: from %d to %d replicas, for %d rows on its lanes: %s",
                *(model, before, started, sample.rows, decision.why),
            )
        await self._tell(model, scaled, decision, started)

    async def _tell(self, model: str, scaled: _Scaled, decision: Decision, started: int) -> None:
        wanted = Wanted(decision.replicas, started, decision.why.value)
        if wanted == scaled.told and time.monotonic() < scaled.tell_at:
            return
        await tell(self._redis, self._keys.of(model), wanted)
        scaled.told, scaled.tell_at = wanted, time.monotonic() + TELL_S
