"""`forebay dead`: look at dead letters, replay them, drop them."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from forebay.cli import flags
from forebay.cli.asking import ask
from forebay.contract.errors import ForebayError, InvalidInput, LaneFull, NotFound, Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import PredictionId
from forebay.runtime import catalog as catalogs
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.dead import DeadLetters, Letter
    from forebay.lanes.predictions import Records

T = TypeVar("T")

dead = typer.Typer(
    help="Look at dead letters, replay them, drop them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "models_file", "redis_url", "key_prefix")

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of dead predictions.")
]
OfModel = Annotated[str | None, typer.Option("--model", help="With --all: of this model.")]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters of the model.")]
Raw = Annotated[bool, typer.Option("--json", help="Print JSON, nothing shortened.")]


@dead.command("list")
@flags.service(*_SETTINGS)
def list_(
    settings: Settings,
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Show at most so many.")] = 50,
    raw: Raw = False,
) -> None:
    """List dead letters, newest first."""
    from forebay.cli.letters import print_letters

    if limit < 1:
        raise InvalidInput(f"--limit takes 1 or more, and not {limit}.")
    served = _served(settings)

    async def newest(letters: "DeadLetters", _: "Records") -> "list[tuple[str, Letter]]":
        found: list[tuple[str, Letter]] = []
        for name in await _models(letters, served, model):
            found += ((name, letter) for letter in await letters.newest(name, most=limit))
        return sorted(found, key=lambda pair: pair[1].at_ms, reverse=True)[:limit]

    print_letters(_ask(settings, newest), raw=raw)


@dead.command("show")
@flags.service(*_SETTINGS)
def show(
    settings: Settings,
    prediction: Annotated[str, typer.Argument(metavar="ID", help="Id of a dead prediction.")],
    raw: Raw = False,
) -> None:
    """Show why a prediction died, and its rows."""
    from forebay.cli.letters import Opened, print_opened, status_of

    id_ = PredictionId.parse(prediction)

    async def opened(letters: "DeadLetters", records: "Records") -> "tuple[str, list[Opened]]":
        found = await letters.of_prediction(id_)
        several = [Opened(letter, await letters.open(id_, letter)) for letter in found]
        return await status_of(records, id_), several

    print_opened(id_, *_ask(settings, opened), raw=raw)


@dead.command("replay")
@flags.service(*_SETTINGS)
def replay(
    settings: Settings,
    predictions: Ids = None,
    model: OfModel = None,
    everything: Everything = False,
) -> None:
    """Run dead predictions again, each as a new one on the lane it was on."""
    ids = _chosen(predictions, model, everything)
    catalog = catalogs.read(Path(settings.models_file))
    specs = {
        name: catalog.find(name) for name in ([model] if model else {id_.model for id_ in ids})
    }
    served = tuple(catalog.served)
    retain_ms = int(settings.result_retention_s * 1000)

    async def run(letters: "DeadLetters", _: "Records") -> None:
        found = await _found(letters, ids, served=served, model=model)
        # Oldest first, as they would have been run.
        await _replay(letters, dict(reversed(found.items())), specs, retain_ms=retain_ms)

    _ask(settings, run)


@dead.command("drop")
@flags.service(*_SETTINGS)
def drop(
    settings: Settings,
    predictions: Ids = None,
    model: OfModel = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Drop dead letters for good."""
    ids = _chosen(predictions, model, everything)
    served = _served(settings)

    async def find(letters: "DeadLetters", _: "Records") -> "dict[str, list[Letter]]":
        return await _found(letters, ids, served=served, model=model)

    found = _ask(settings, find)
    number = sum(len(several) for several in found.values())
    which = _counted(number) + (f" of {model}" if model else "")
    if number and not yes and not typer.confirm(f"Drop {which} for good?"):
        raise ForebayError("Nothing was dropped.")

    async def run(letters: "DeadLetters", _: "Records") -> None:
        gone = number
        for prediction, several in found.items():
            name, shard = (model, 0) if model else _place(prediction)
            dropped = await letters.drop(name, several, shard=shard)
            gone -= dropped
            if not model:
                print(f"{prediction}: dropped {_counted(dropped)}", flush=True)
        if model:
            print(f"dropped {_counted(number - gone)} of {model}")
        if gone:
            raise NotFound(f"{_counted(gone)} had been replayed or dropped by somebody else.")

    _ask(settings, run)


def _counted(number: int) -> str:
    return f"{number} dead {'letter' if number == 1 else 'letters'}"


async def _replay(
    letters: "DeadLetters",
    found: "Mapping[str, Sequence[Letter]]",
    specs: Mapping[str, ModelSpec],
    *,
    retain_ms: int,
) -> None:
    """Replay predictions; what can't be run again is told, and the others go on.

    Raises:
        ForebayError: some were not replayed.
    """
    done = 0
    for prediction, several in found.items():
        try:
            id_ = PredictionId.parse(prediction)
            if id_.model not in specs:
                raise ForebayError(f"{prediction} can't be replayed: it is of another model.")
            new = await letters.replay(id_, several, specs[id_.model], retain_ms=retain_ms)
        except (LaneFull, Unavailable) as error:
            told = f" {done} of {len(found)} were replayed before it." if done else ""
            raise type(error)(error.message + told) from error
        except ForebayError as error:
            if len(found) == 1:
                raise
            print(f"forebay: {error.message}", file=sys.stderr)
            continue
        print(f"{prediction} is replayed as {new.text}", flush=True)
        done += 1
    if done < len(found):
        raise ForebayError(f"{len(found) - done} of {len(found)} were not replayed.")
    if not found:
        print("There is no dead letter to replay.")


def _chosen(
    predictions: Sequence[str] | None, model: str | None, everything: bool
) -> list[PredictionId]:
    """The predictions that were named; none if a model's are all meant.

    Raises:
        InvalidInput: neither, or both.
        NotFound: a name is no id.
    """
    if bool(predictions) == everything or everything != (model is not None):
        raise InvalidInput("Name predictions, or say --model MODEL --all.")
    return [PredictionId.parse(text) for text in dict.fromkeys(predictions or ())]


async def _found(
    letters: "DeadLetters",
    ids: Sequence[PredictionId],
    *,
    served: Sequence[str],
    model: str | None,
) -> "dict[str, list[Letter]]":
    """The letters meant, by prediction, newest first.

    Raises:
        NotFound: one of the predictions has none, or there is no such model.
    """
    if model is None:
        return {id_.text: await letters.of_prediction(id_) for id_ in ids}
    (name,) = await _models(letters, served, model)
    found: dict[str, list[Letter]] = {}
    for letter in await letters.every(name):
        found.setdefault(letter.prediction, []).append(letter)
    return found


def _served(settings: Settings) -> tuple[str, ...]:
    """The models of the catalog, if there is one here: letters are told without it too."""
    path = Path(settings.models_file)
    return tuple(catalogs.read(path).served) if path.exists() else ()


async def _models(letters: "DeadLetters", served: Sequence[str], model: str | None) -> list[str]:
    """The models meant: one, or all that may have dead letters.

    Raises:
        NotFound: nothing is known of that one.
    """
    known = await letters.models(served)
    if model is None:
        return known
    if model not in known:
        raise NotFound(f"There is no model {model[:80]!r} here. Models: {', '.join(known)}.")
    return [model]


def _place(prediction: str) -> tuple[str, int]:
    id_ = PredictionId.parse(prediction)
    return id_.model, id_.shard


def _ask(settings: Settings, what: "Callable[[DeadLetters, Records], Awaitable[T]]") -> T:
    """Do something with the dead letters; see `ask`."""
    from forebay.lanes.dead import DeadLetters
    from forebay.lanes.predictions import Records

    return ask(settings, lambda redis, keys: what(DeadLetters(redis, keys), Records(redis, keys)))
