"""What `forebay workers replicas` tells: of each model, what is there and what is wanted."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from forebay.cli.show import print_table
from forebay.lanes import scaling
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime import catalog
from forebay.runtime.redis import Commands, now_ms
from forebay.runtime.settings import Settings


class Standing(msgspec.Struct, frozen=True):
    """How many replicas of a model there are, and should be.

    Attributes:
        model: what they serve.
        ready: present, whoever has started them.
        started: by the autoscaler, ready or not; None where it doesn't look after the model.
        wanted: by it, likewise.
        min: replicas there always are.
        max: replicas there may be.
        rows: on its lanes, waiting and leased.
        why: what the wanted ones are for.
    """

    model: str
    ready: int
    started: int | None
    wanted: int | None
    min: int
    max: int
    rows: int
    why: str


def standings(settings: Settings) -> Callable[[Commands, Keys], Awaitable[list[Standing]]]:
    """Asks about every model that has workers.

    Raises:
        ConfigurationError: there is no catalog, or it is wrong.
    """
    specs = catalog.read(Path(settings.models_file)).wanted

    async def find(redis: Commands, keys: Keys) -> list[Standing]:
        at_ms = await now_ms(redis)
        found: list[Standing] = []
        for spec in specs:
            of = keys.of(spec.name)
            there = await depth(redis, of, now_ms=at_ms)
            wanted = await scaling.told(redis, of)
            found.append(
                Standing(
                    spec.name,
                    there.replicas,
                    None if wanted is None else wanted.started,
                    None if wanted is None else wanted.replicas,
                    spec.replicas.min,
                    spec.replicas.most,
                    there.realtime + there.bulk,
                    "" if wanted is None else wanted.why,
                )
            )
        return found

    return find


def print_standings(found: Sequence[Standing]) -> None:
    """Print them as a table."""
    columns = ("model", "ready", "wanted", "bounds", "rows", "why")
    print_table(
        columns,
        [
            (
                one.model,
                str(one.ready),
                "" if one.wanted is None else str(one.wanted),
                str(one.min) if one.min == one.max else f"{one.min} to {one.max}",
                f"{one.rows:,}",
                one.why,
            )
            for one in found
        ],
    )
