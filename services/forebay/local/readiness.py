"""Is everything that was started ready to serve: the gateway, and a worker for every model.

A worker that has several models need not hold them all at once: one that it would load with its
first row is as good as there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import Unavailable
from forebay.contract.workers import ModelState
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.lanes.roster import Roster
from forebay.lanes.traffic import Traffic, effective
from forebay.local.welcome import Address
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, connect, now_ms

POLL_S = 0.02

SAY_AFTER_S = 10.0
"""How often a slow start says what it waits for."""

HTTP_TIMEOUT_S = 2.0


async def live_versions(catalog: Catalog, *, redis_url: str, key_prefix: str) -> set[str]:
    """Versions that get requests by what operators have set last, by what they are served under.

    Raises:
        Unavailable: Redis can't be asked.
    """
    keys = Keys(key_prefix)
    live: set[str] = set()
    client = connect(redis_url, timeout_s=HTTP_TIMEOUT_S)
    try:
        for spec in catalog.models.values():
            if not spec.versions:
                continue
            shares = effective(spec, await Traffic(client).current(keys.of(spec.name)))
            wanted = [version for version, share in shares.items() if share > 0]
            live.update(catalog.version(spec, version).name for version in wanted)
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis can't be asked which versions get requests: {error}.") from error
    finally:
        await client.aclose()
    return live


async def until_ready(
    address: Address,
    models: Iterable[str],
    *,
    gateways: Callable[[], set[int | None]],
    redis_url: str,
    key_prefix: str,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Wait until all gateways are ready and every model has a worker present, or can't have one.

    Args:
        address: where the gateways listen.
        models: names.
        gateways: their process ids as they are; None for one that doesn't run.
        redis_url: the server that workers announce themselves on.
        key_prefix: `settings.key_prefix`.
        say: told now and then what is not there yet.

    Returns:
        Models that no worker has enough memory for, and why.
    """
    loop = asyncio.get_running_loop()
    speak_at = loop.time() + SAY_AFTER_S
    absent = dict.fromkeys(models, _Absence())
    keys = Keys(key_prefix)
    heard: set[int] = set()
    client = connect(redis_url, timeout_s=HTTP_TIMEOUT_S)
    try:
        while True:
            with contextlib.suppress(RedisError, OSError):
                absent = await _absent(client, keys, absent)
            # Who answers is left to the system.
            for _ in gateways() - heard:
                if (pid := await gateway_ready(address)) is not None:
                    heard.add(pid)
            silent = gateways() - heard
            late = {name: gone for name, gone in absent.items() if not gone.for_good}
            if not silent and not late:
                return {name: gone.why for name, gone in absent.items()}
            if loop.time() >= speak_at:
                speak_at += SAY_AFTER_S
                missing = [f"a worker for {name}{gone}" for name, gone in late.items()]
                some = ["gateway" if len(gateways()) == 1 else f"{len(silent)} gateways"]
                say(f"still waiting for {', '.join([*missing, *(some if silent else [])])}")
            await asyncio.sleep(POLL_S)
    finally:
        await client.aclose()


async def gateway_ready(address: Address) -> int | None:
    """The process id of a gateway that says it is ready, 0 if not that; None if none does."""
    try:
        async with asyncio.timeout(HTTP_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.reachable, address.port)
            try:
                writer.write(
                    b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                answer = await reader.read()
                ready = b" 200 " in answer.partition(b"\r\n")[0]
                return _Told.of(answer).pid if ready else None
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None


class _Told(msgspec.Struct, frozen=True):
    """What of `/health/ready` is looked at."""

    pid: int = 0

    @classmethod
    def of(cls, answer: bytes) -> "_Told":
        try:
            return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=cls)
        except msgspec.MsgspecError:
            return cls()


class _Absence(msgspec.Struct, frozen=True):
    """Why a model has no worker, if that is known, and whether it will never have."""

    why: str = ""
    for_good: bool = False

    def __str__(self) -> str:
        return f" ({self.why})" if self.why else ""


async def _absent(redis: Commands, keys: Keys, models: Iterable[str]) -> dict[str, _Absence]:
    """Those models that have no worker present, and none that would load them; why, if known."""
    at_ms = await now_ms(redis)
    depths = {name: await depth(redis, keys.of(name), now_ms=at_ms) for name in models}
    absent = [name for name, found in depths.items() if found.replicas == 0]
    told = [model for card in await Roster(redis, keys).present() for model in card.models]
    errors = {model.name: _Absence(model.error, model.too_big) for model in told if model.error}
    willing = {
        model.name
        for model in told
        if model.state is ModelState.ABSENT and not model.away and not model.error
    }
    return {name: errors.get(name, _Absence()) for name in absent if name not in willing}
