"""The autoscaler as a process of its own, where replicas are started by something else."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping

from forebay.autoscaler.loop import Autoscaler
from forebay.autoscaler.targets.elsewhere import Elsewhere
from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec
from forebay.lanes.keys import Keys
from forebay.lanes.producer import kept_going
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect, connect_blocking
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)


async def run(settings: Settings, catalog: Catalog) -> None:
    """Tell in Redis how many replicas each model is to have, until SIGTERM or SIGINT.

    Gateways pass it on (`GET /autoscale/{model}`). Several of these at once tell the same, but for
    how long each has looked.

    Args:
        settings: where Redis is.
        catalog: models whose `replicas` leave a choice are looked at.

    Raises:
        ConfigurationError: none of them does.
    """
    models = {spec.name: spec for spec in catalog.wanted if not spec.replicas.is_fixed}
    if not models:
        raise ConfigurationError(
            "No model's replicas may come and go: give one a `[models.NAME.replicas]` table whose "
            "`min` is less than its `max`."
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
        stack.push_async_callback(redis.aclose)
        blocking = connect_blocking(settings.redis_url, timeout_s=settings.redis_timeout_s)
        stack.push_async_callback(blocking.aclose)
        target = Elsewhere()
        scaler = Autoscaler(redis, blocking, Keys(settings.key_prefix), models, target)
        if settings.keda_port:
            await stack.enter_async_context(_for_keda(settings, target, models))
        await stack.enter_async_context(kept_going("autoscaler", scaler.run))
        log.info("telling how many replicas there should be of: %s", ", ".join(sorted(models)))
        await stop.wait()


def _for_keda(
    settings: Settings, target: Elsewhere, models: Mapping[str, ModelSpec]
) -> contextlib.AbstractAsyncContextManager[int]:
    try:
        from forebay.autoscaler.keda.server import listening
        from forebay.autoscaler.keda.service import Service
    except ImportError as error:
        raise ConfigurationError(
            f"keda_port is set, and {error.name} is not installed: pip install 'forebay[grpc]'."
        ) from error
    return listening(Service(target, models), host=settings.host, port=settings.keda_port)
