"""Asking a worker to finish, so that nothing it holds is cut off when it is told to end."""

import logging
from typing import Final

from redis.exceptions import RedisError

from forebay.contract.errors import ForebayError
from forebay.contract.workers import Verb
from forebay.lanes import orders
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, now_ms

log = logging.getLogger(__name__)

PATIENCE_S: Final = 86_400.0
"""Longest that a worker may take to finish what it holds."""


async def retire(redis: Commands, keys: Keys, worker: str, model: str) -> None:
    """Have a worker take nothing more of a model, and wait until it has finished what it holds.

    Whatever goes wrong is logged: it can be told to end all the same, and then drains within its
    grace, which is all that there is left to do.

    Args:
        redis: client with a timeout.
        keys: key builder.
        worker: by its own name.
        model: what it serves.
    """
    try:
        await orders.give(
            redis,
            keys,
            worker,
            Verb.RETIRE,
            model,
            now_ms=await now_ms(redis),
            within_s=PATIENCE_S,
        )
    except (ForebayError, RedisError, OSError) as error:
        log.warning("a worker of %s could not be asked to finish: %s", model, error)
