"""`forebay cache`: what is kept of models' outputs, how often it answers, and emptying it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from forebay.cli import flags
from forebay.cli.asking import ask
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.contract.model import ModelSpec
    from forebay.lanes.cache import Standing
    from forebay.lanes.keys import Keys
    from forebay.runtime.redis import Commands

cache = typer.Typer(
    help="See what models' response caches hold, and empty them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "models_file", "redis_url", "key_prefix")

Model = Annotated[
    str | None, typer.Argument(help="Name of a model, or MODEL@VERSION. All, if left out.")
]


@cache.command("stats")
@flags.service(*_SETTINGS)
def stats(
    settings: Settings,
    model: Model = None,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what the caches hold in Redis, and how many rows were answered from where.

    Gateways count once a second. Counters go on for as long as Redis keeps them.
    """
    from forebay.cli.show import print_table

    specs = _meant(settings, model)

    async def standing(redis: "Commands", keys: "Keys") -> "dict[str, Standing]":
        from forebay.lanes.cache import Cache

        of = Cache(redis, keys)
        return {spec.name: await of.standing(spec.name) for spec in specs}

    found = ask(settings, standing)
    if raw:
        print(json.dumps(msgspec.to_builtins(found), indent=2))
    elif not found:
        print("No model has a cache: say `enabled = true` in its [models.NAME.cache].")
    else:
        columns = (
            "model",
            "entries",
            "in Redis",
            "hits",
            "near",
            "far",
            "alike",
            "missed",
            "evicted",
            "",
        )
        print_table(columns, [_row(spec, found[spec.name]) for spec in specs])


@cache.command("clear")
@flags.service(*_SETTINGS)
def clear(settings: Settings, model: Model = None) -> None:
    """Empty the caches: Redis at once, gateways' own memory within a second or so.

    What is being run at this moment is kept when it is done, all the same.
    """
    specs = _meant(settings, model)

    async def empty(redis: "Commands", keys: "Keys") -> dict[str, int]:
        from forebay.lanes.cache import Cache

        of = Cache(redis, keys)
        return {spec.name: await of.clear(spec.name) for spec in specs}

    for name, entries in ask(settings, empty).items():
        print(f"{name}: dropped {entries:,}.")


def _meant(settings: Settings, model: str | None) -> "Sequence[ModelSpec]":
    """The one named, whether or not its cache is enabled now; else all that have one.

    Raises:
        NotFound: there is no such model.
    """
    from forebay.runtime import catalog as catalogs

    catalog = catalogs.read(Path(settings.models_file))
    if model is not None:
        return [catalog.find(model)]
    return [spec for spec in catalog.served.values() if spec.cache.enabled]


def _row(spec: "ModelSpec", told: "Standing") -> tuple[str, ...]:
    """A model as a row of the table."""
    hits = told.near + told.far + told.alike
    # What was answered for another prompt had been missed before.
    asked = told.near + told.far + told.missed
    return (
        spec.name,
        f"{told.entries:,}",
        f"{told.bytes / 1e6:,.1f} of {spec.cache.redis_bytes / 1e6:,.1f} MB",
        f"{hits / asked:.0%}" if asked else "",
        f"{told.near:,}",
        f"{told.far:,}",
        f"{told.alike:,}",
        f"{told.missed:,}",
        f"{told.evicted:,}",
        f"{told.unreadable:,} unreadable" if told.unreadable else "",
    )
