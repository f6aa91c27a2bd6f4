"""`forebay batches`: what there is of batches, how far each is, and cancelling one."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from forebay.cli import flags
from forebay.cli.asking import ask
from forebay.contract.batches import Batch
from forebay.contract.errors import InvalidInput
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.keys import Keys
    from forebay.records.batches import Batches
    from forebay.runtime.redis import Commands

batches = typer.Typer(
    help="See batches and how far they are, and cancel one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "redis_url", "key_prefix")

LOOK_S: Final = 0.5
"""How often a batch that is followed is looked at."""

SHOWN_FAULTS: Final = 10

Id = Annotated[str, typer.Argument(metavar="BATCH", help="Its id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@batches.command("list")
@flags.service(*_SETTINGS)
def list_(
    settings: Settings,
    most: Annotated[int, typer.Option("--most", min=1, max=1_000, help="Show so many.")] = 20,
    raw: Json = False,
) -> None:
    """List batches, the newest first."""
    from forebay.cli.show import print_table

    async def newest(redis: "Commands", keys: "Keys") -> list[Batch]:
        return list((await _batches(settings, redis, keys).page(limit=most)).batches)

    found = ask(settings, newest)
    if raw:
        _print_json(found)
    elif not found:
        print("There are no batches.")
    else:
        columns = ("batch", "status", "endpoint", "made", "lines", "answered", "failed")
        print_table(columns, [_row(batch) for batch in found])


@batches.command("show")
@flags.service(*_SETTINGS)
def show(
    settings: Settings,
    batch: Id,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show how far it is until it has ended.")
    ] = False,
    raw: Json = False,
) -> None:
    """Show a batch: how far it is, what is wrong with its file, where its answers are."""

    async def find(redis: "Commands", keys: "Keys") -> Batch:
        known = _batches(settings, redis, keys)
        return await (_followed(known, batch) if follow else known.get(batch))

    found = ask(settings, find)
    if raw:
        _print_json(found)
    else:
        _print(found)


@batches.command("cancel")
@flags.service(*_SETTINGS)
def cancel(settings: Settings, batch: Id) -> None:
    """Cancel a batch. What is done of it is kept, and what runs may still be done."""

    async def give_up(redis: "Commands", keys: "Keys") -> None:
        known = _batches(settings, redis, keys)
        before = await known.cancel(batch)
        if not before.cancellable:
            raise InvalidInput(f"{batch} is {before.value}, and can't be cancelled any more.")

    ask(settings, give_up)
    print(f"{batch} is being cancelled.")


def _batches(settings: Settings, redis: "Commands", keys: "Keys") -> "Batches":
    from forebay.records.batches import Batches

    return Batches(redis, keys, retention_s=settings.file_retention_s)


async def _followed(known: "Batches", id_: str) -> Batch:
    """A batch once it has ended, its progress shown until then."""
    found = await known.get(id_)
    with _bar() as tell:
        while not found.status.terminal:
            tell(found)
            await asyncio.sleep(LOOK_S)
            found = await known.get(id_)
        tell(found)
    return found


@contextlib.contextmanager
def _bar() -> Generator[Callable[[Batch], None]]:
    """Show on stderr how far a batch is, if that is a terminal; yields what to tell it to."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        task = progress.add_task("", total=None)

        def tell(batch: Batch) -> None:
            counts = batch.counts
            progress.update(
                task,
                description=batch.status.value,
                total=counts.total or None,
                completed=counts.completed + counts.failed,
            )

        yield tell


def _print(batch: Batch) -> None:
    from forebay.cli.letters import plain
    from forebay.cli.show import print_table

    counts, usage = batch.counts, batch.usage
    rows = [
        ("status", batch.status.value),
        ("endpoint", batch.request.endpoint),
        ("lines", f"{counts.completed:,} answered, {counts.failed:,} failed, of {counts.total:,}"),
        ("tokens", f"{usage.input:,} asked, {usage.output:,} answered" if usage.total else ""),
        ("requests", batch.request.input_file_id),
        ("answers", batch.output_file_id or ""),
        ("errors", batch.error_file_id or ""),
        ("made", _time(batch.created_at)),
        *((status.value, _time(at)) for status, at in sorted(batch.since.items(), key=_when)),
        ("expires", "" if batch.status.terminal else _time(batch.expires_at)),
        *((plain(key), plain(value)) for key, value in batch.request.metadata.items()),
    ]
    print_table(("batch", batch.id), [row for row in rows if row[1]])
    for fault in batch.faults[:SHOWN_FAULTS]:
        print(f"line {fault.line}: {fault.message}" if fault.line else fault.message)
    if len(batch.faults) > SHOWN_FAULTS:
        print(f"and {len(batch.faults) - SHOWN_FAULTS} more: see --json.")


def _when(item: tuple[object, float]) -> float:
    return item[1]


def _row(batch: Batch) -> tuple[str, ...]:
    counts = batch.counts
    return (
        batch.id,
        batch.status.value,
        batch.request.endpoint,
        _time(batch.created_at),
        f"{counts.total:,}",
        f"{counts.completed:,}",
        f"{counts.failed:,}",
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print_json(value: object) -> None:
    print(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))
