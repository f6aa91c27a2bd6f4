"""`forebay workers`: who works here, and which models they have; and those of a machine."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from forebay.cli import flags
from forebay.cli.asking import ask
from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.workers import ModelCard, ModelState, Verb, WorkerCard
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.keys import Keys
    from forebay.runtime.redis import Commands

workers = typer.Typer(
    help="See who works, have workers load or unload models, and run those of a machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "redis_url", "key_prefix")

Name = Annotated[
    str, typer.Argument(metavar="WORKER", help="Its name, or as much of it as no other has.")
]
Model = Annotated[str, typer.Argument(help="Name of a model of its set.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0.1, help="Give up waiting after so many seconds.")
]


@workers.command("list")
@flags.service(*_SETTINGS)
def list_(
    settings: Settings,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the workers that are present, their models, and what they take."""
    from forebay.cli.show import print_table

    async def present(redis: "Commands", keys: "Keys") -> list[WorkerCard]:
        from forebay.lanes.roster import Roster

        roster = Roster(redis, keys)
        await roster.tidy()
        return await roster.present()

    cards = ask(settings, present)
    if raw:
        print(json.dumps(msgspec.to_builtins(cards), indent=2, ensure_ascii=False))
    elif not cards:
        print("No worker is present.")
    else:
        columns = ("worker", "memory", "model", "state", "since", "takes", "")
        print_table(columns, [row for card in cards for row in _rows(card)])


@workers.command("replicas")
@flags.service("home", "models_file", "redis_url", "key_prefix")
def replicas(
    settings: Settings,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell of each model how many replicas are ready, how many are wanted, and why."""
    from forebay.cli.replicas import print_standings, standings

    found = ask(settings, standings(settings))
    if raw:
        print(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
    else:
        print_standings(found)


@workers.command("run")
@flags.service(*_SETTINGS, "models_file", "worker_memory_mb", "idle_unload_s", "log_level")
def run(
    settings: Settings,
    models: Annotated[
        list[str] | None, typer.Argument(help="Models, or MODEL@VERSION; all if none is named.")
    ] = None,
) -> None:
    """Run workers of models on this machine, as many of each as there is work for.

    Gateways, the background and Redis are elsewhere. `forebay up` does this by itself.
    """
    from forebay.local.pool import Pool
    from forebay.local.terminal import own_foreground
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    setup_logging(settings, "workers")
    pool = Pool(settings, catalog.read(Path(settings.models_file)), models or (), show=_show)
    with contextlib.suppress(KeyboardInterrupt), own_foreground():
        asyncio.run(pool.run())


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@workers.command("load")
@flags.service(*_SETTINGS)
def load(settings: Settings, worker: Name, model: Model, wait_s: Wait = 60.0) -> None:
    """Have a worker load a model, making room for it if it must.

    The idle go at once, the busy when their turn is over.
    """
    _order(settings, Verb.LOAD, worker, model, wait_s)
    print(f"{model} is loaded.")


@workers.command("unload")
@flags.service(*_SETTINGS)
def unload(settings: Settings, worker: Name, model: Model, wait_s: Wait = 60.0) -> None:
    """Have a worker finish what it holds of a model, and give its memory back.

    It stays away from this worker until it is ordered back, or the worker starts anew.
    """
    _order(settings, Verb.UNLOAD, worker, model, wait_s)
    print(f"{model} is unloaded.")


def _order(settings: Settings, verb: Verb, worker: str, model: str, wait_s: float) -> None:
    async def give(redis: "Commands", keys: "Keys") -> None:
        from forebay.lanes import orders
        from forebay.lanes.roster import Roster
        from forebay.runtime.redis import now_ms

        card = _meant(await Roster(redis, keys).present(), worker)
        await orders.give(
            redis, keys, card.name, verb, model, now_ms=await now_ms(redis), within_s=wait_s
        )

    ask(settings, give)


def _meant(cards: Sequence[WorkerCard], name: str) -> WorkerCard:
    """The worker of that name, or the only one whose name has it in it.

    Raises:
        NotFound: there is none.
        InvalidInput: there are several.
    """
    found = [card for card in cards if card.name == name]
    found = found or [card for card in cards if name in card.name]
    if not found:
        present = ", ".join(card.name for card in cards) or "none"
        raise NotFound(f"No worker {name[:80]!r} is present. Workers: {present}.")
    if len(found) > 1:
        several = ", ".join(card.name for card in found)
        raise InvalidInput(f"{name!r} is part of several workers' names: {several}. Say more.")
    return found[0]


def _rows(card: WorkerCard) -> list[tuple[str, ...]]:
    """A worker as rows of the table: one for each of its models."""
    taken = _mb(card.rss_bytes)
    if card.memory_bytes:
        taken += f" of {_mb(card.memory_bytes)}"
    rows = [
        (
            model.name,
            "away" if model.away and model.state is ModelState.ABSENT else model.state.value,
            _ago(model.since_ms),
            _mb(model.bytes) if model.bytes else "",
            model.error or _guessed(model),
        )
        for model in card.models
    ]
    rows = rows or [("none: leaving", "", "", "", "")]
    return [
        (card.name if number == 0 else "", taken if number == 0 else "", *row)
        for number, row in enumerate(rows)
    ]


def _guessed(model: ModelCard) -> str:
    guesses = model.guesses
    if guesses is None or not guesses.drafted:
        return ""
    return f"{guesses.rate:.0%} of {guesses.drafted:,} drafted tokens were right"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _ago(since_ms: int) -> str:
    seconds = max(int(time.time() - since_ms / 1000), 0)
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
