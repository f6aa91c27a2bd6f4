"""The response cache as requests meet it: what is answered from it, and what it learns.

    rows ─▶ keys ─▶ shelf (this process) ─▶ Redis ─▶ hits, and the rows that are left to run
                        ▲                                              │
                        └──────────── outputs of the same version ◀────┘

Workers write the entries in Redis when they settle (`settle.lua`); a gateway keeps on its shelf
what it has read there, and what it was answered itself. Decision 0035.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from itertools import compress
from typing import Final

import msgspec
from redis.exceptions import RedisError

from forebay.contract.caching import CacheKeys, Entry, Scope, decode_entry, row_keys
from forebay.contract.hits import Hits
from forebay.contract.messages import Reply
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import PredictionId, Status, Timing
from forebay.contract.rows import Options, Output, Row, Task, output_bytes
from forebay.gateway import cache_control
from forebay.gateway.cache_control import Directives
from forebay.gateway.recall import Asker, Recall, not_cached
from forebay.gateway.semantic import Near, Semantic
from forebay.gateway.shelf import Shelf
from forebay.gateway.versions import Versions
from forebay.gateway.work import Request
from forebay.lanes.cache import Cache, Count, Lookups
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often counts are told, and it is asked whether a cache was emptied."""


class _Kept:
    """What a gateway keeps of one model, and has counted since it last told."""

    def __init__(self, spec: ModelSpec) -> None:
        self.shelf = Shelf(spec.cache.gateway_bytes)
        self.count = Count()
        self.cleared: int | None = None


class Caching:
    """Answers rows from the cache.

    Args:
        catalog: the models there are.
        versions: which artifacts serve them.
        lookups: finds entries in Redis.
        cache: where it is told what was looked up.
        link: whether Redis is within reach.
        semantic: forgets what it knows when a cache was emptied.
        clock: the server's clock.
    """

    def __init__(
        self,
        catalog: Catalog,
        versions: Versions,
        *,
        lookups: Lookups,
        cache: Cache,
        semantic: Semantic,
        link: Link,
        clock: Clock,
    ) -> None:
        self._versions = versions
        self._lookups = lookups
        self._cache = cache
        self._semantic = semantic
        self._link = link
        self._clock = clock
        self._kept = {
            name: _Kept(spec) for name, spec in catalog.served.items() if spec.cache.enabled
        }

    def __bool__(self) -> bool:
        """Whether any model has a cache."""
        return bool(self._kept)

    async def recall(
        self,
        spec: ModelSpec,
        id_: PredictionId,
        rows: Sequence[Row],
        *,
        now_ms: int,
        truncate: bool,
        options: Options,
        wants: Directives,
        asker: Asker | None,
    ) -> Recall:
        """What the cache has for a request.

        Args:
            spec: the version that it goes to; its cache is enabled.
            id_: that it is made.
            rows: at least one.
            now_ms: when it was made: a prediction that is answered whole ends then.
            truncate: whether over-long rows are cut.
            options: what is asked of the outputs.
            wants: what the client does.
            asker: the client, to be told what was done; None doesn't listen.

        Raises:
            NotCached: the client wants it cached or not at all, and it isn't.
        """
        scope = _scope_of(spec, asker)
        serving = self._versions.serving(spec)
        if scope is None or serving is None or wants.no_store or _draws(spec, rows, options):
            why = "the version that serves is not known here" if serving is None else ""
            if _draws(spec, rows, options):
                why = "the text is drawn anew"
            return _past(rows, scope, wants, asker, "no API key" if scope is None else why)
        version = serving.version
        keys = row_keys(rows, version=version, truncate=truncate, options=options, scope=scope)
        found, why = await self._found(spec, id_, keys, wants, now_ms)
        at = tuple(index for index, entry in enumerate(found) if entry is not None)
        entries = [entry for entry in found if entry is not None]
        outputs = tuple(entry.output for entry in entries)
        if len(at) == len(rows):
            made_ms = min(entry.at_ms for entry in entries)
            return _answered(spec, id_, outputs, version, now_ms, made_ms, scope, asker)
        if wants.only_if_cached and spec.cache.semantic is None:
            raise not_cached(asker)
        missed = [index for index, entry in enumerate(found) if entry is None]
        recalled = Recall(
            [rows[index] for index in missed] if at else rows,
            scope,
            CacheKeys(version, tuple(keys[index] for index in missed) if at else keys),
            Hits(len(rows), at, outputs) if at else None,
            None,
            "partial" if at else why,
            asker,
        )
        recalled.tell()
        return recalled

    async def resemble(self, request: Request, near: Sequence[Near]) -> None:
        """Answer a request with what is cached for a prompt like its own, if anything is.

        Args:
            request: what it recalls is its row's absence; it is told there what was found.
            near: the likest first.

        Raises:
            NotCached: the client wants it cached or not at all, and nothing is.
        """
        recalled, spec, asker = request.recalled, request.spec, request.asker
        if recalled is None or recalled.keys is None:
            return
        wants = request.wants
        count = self._kept[spec.name].count
        for one in near:
            (entry,), _ = await self._found(
                spec, request.id, [one.key], wants, request.now_ms, count=Count()
            )
            if entry is None:
                continue
            count.alike += 1
            request.recalled = _answered(
                spec,
                request.id,
                (entry.output,),
                recalled.keys.version,
                request.now_ms,
                entry.at_ms,
                recalled.scope,
                asker,
                # Cut, not rounded: what is below the threshold must not look as if it were not.
                detail=f"semantic {int(one.cosine * 1000) / 1000:.3f}",
            )
            return
        if wants.only_if_cached:
            raise not_cached(asker)

    def learn(
        self,
        spec: ModelSpec,
        recalled: Recall,
        version: str | None,
        outputs: Sequence[Output],
        *,
        joined: bool,
    ) -> Sequence[Output]:
        """Keep what came of the rows that ran; returns the outputs of all, in order.

        Args:
            spec: as for `recall`.
            recalled: what that has returned.
            version: which one answered. Where it is another than was asked for, as while workers
                change to a new artifact, its outputs are not kept.
            outputs: of the rows that ran, in order; of all where none did.
            joined: they ran for another, who alone knows whether they are stored; that the client
                was told already.
        """
        keys = recalled.keys
        if keys is not None and keys.version == version:
            shelf, now_ms = self._kept[spec.name].shelf, self._clock.now_ms()
            fits = [output_bytes(output) <= spec.cache.max_entry_bytes for output in outputs]
            for key, output in zip(compress(keys.keys, fits), compress(outputs, fits), strict=True):
                shelf.put(key, Entry(now_ms, output))
            if not joined:
                recalled.tell(stored=all(fits))
        return outputs if recalled.hits is None else recalled.hits.merged(outputs)

    async def run(self) -> None:
        """Tell what was looked up, and follow whether caches were emptied, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._link.returned()
            await self.tell()

    async def tell(self) -> None:
        """Do so once."""
        for model, kept in self._kept.items():
            count, kept.count = kept.count, Count()
            try:
                cleared = await self._cache.count(model, count)
            except (RedisError, OSError) as error:
                log.warning("what was looked up for %s is not counted: %s", model, error)
                continue
            if kept.cleared not in (None, cleared):
                kept.shelf.clear()
                self._semantic.clear(model)
                log.info("the cache of %s was emptied", model)
            kept.cleared = cleared

    async def _found(
        self,
        spec: ModelSpec,
        id_: PredictionId,
        keys: Sequence[bytes],
        wants: Directives,
        now_ms: int,
        *,
        count: Count | None = None,
    ) -> tuple[list[Entry | None], str]:
        """An entry for each key, or None; and why there is None, as `Cache-Status` has it.

        Args:
            spec: the model.
            id_: of the request's prediction.
            keys: of rows.
            wants: what the client does.
            now_ms: when it asked.
            count: where this is counted, if not with the model's look-ups.
        """
        if wants.no_cache:
            return [None] * len(keys), "request"
        kept = self._kept[spec.name]
        count = count or kept.count
        ttl_ms = spec.cache.ttl_ms
        oldest_ms = now_ms - (ttl_ms if wants.max_age_ms is None else min(ttl_ms, wants.max_age_ms))
        found: list[Entry | None] = []
        far: list[int] = []
        for index, key in enumerate(keys):
            entry = kept.shelf.get(key)
            if entry is None or entry.at_ms <= oldest_ms:
                far.append(index)
                entry = None
            found.append(entry)
        count.near += len(keys) - len(far)
        why = "miss"
        if far:
            read = await self._lookups.find(id_, [keys[index] for index in far])
            for index, data in zip(far, read, strict=True):
                entry = None if data is None else _read(data, count)
                if entry is None:
                    count.missed += 1
                elif entry.at_ms <= oldest_ms:
                    count.missed += 1
                    why = "stale"
                else:
                    count.far += 1
                    kept.shelf.put(keys[index], entry)
                    found[index] = entry
        return found, why


def _draws(spec: ModelSpec, rows: Sequence[Row], options: Options) -> bool:
    """Whether the same request may come to another text."""
    if spec.task is not Task.GENERATION:
        return False
    sampling = options.sampling
    if sampling is None or not sampling.repeatable:
        return True
    # Each row of a seed draws from a sequence of its own.
    return sampling.temperature > 0 and len(rows) > 1


def _answered(
    spec: ModelSpec,
    id_: PredictionId,
    outputs: tuple[Output, ...],
    version: str,
    now_ms: int,
    made_ms: int,
    scope: bytes | None,
    asker: Asker | None,
    detail: str = "",
) -> Recall:
    """A request that the cache has all of."""
    if asker is not None:
        asker.tell_cache(cache_control.hit(made_ms + spec.cache.ttl_ms - now_ms, detail=detail))
    return Recall((), scope, None, None, _reply(id_, outputs, version, now_ms), "", asker)


def _past(
    rows: Sequence[Row],
    scope: bytes | None,
    wants: Directives,
    asker: Asker | None,
    detail: str,
) -> Recall:
    """A request that the cache has no part in."""
    if wants.only_if_cached:
        raise not_cached(asker)
    if asker is not None:
        asker.tell_cache(cache_control.forwarded("bypass", detail=detail))
    return Recall(rows, scope, None, None, None, "bypass", asker)


def _scope_of(spec: ModelSpec, asker: Asker | None) -> bytes | None:
    """Digest of who shares a request's answers, empty for everybody; None where nobody does."""
    if spec.cache.scope is Scope.SHARED:
        return b""
    caller = b"" if asker is None else asker.caller()
    # Nothing tells those without a key from one another.
    return hashlib.blake2b(caller, digest_size=16).digest() if caller else None


def _read(data: bytes, count: Count) -> Entry | None:
    try:
        return decode_entry(data)
    except msgspec.MsgspecError as error:
        count.unreadable += 1
        log.warning(
            "a cached entry of %d bytes can't be read, its row is run: %s", len(data), error
        )
        return None


def _reply(id_: PredictionId, outputs: tuple[Output, ...], version: str, now_ms: int) -> Reply:
    """How a prediction ends that nothing ran for."""
    return Reply(
        prediction=id_.text,
        status=Status.SUCCEEDED,
        completed_at_ms=now_ms,
        outputs=outputs,
        version=version,
        started_at_ms=now_ms,
        timing=Timing(0.0, 0.0, 0.0),
    )
