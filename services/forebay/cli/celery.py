"""`forebay celery`: look at messages of Celery apps that nothing could be made of."""

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from forebay.cli import flags
from forebay.cli.asking import ask
from forebay.contract.errors import ConfigurationError, InvalidInput
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.background.ingress.letters import Letter, Letters

T = TypeVar("T")

celery = typer.Typer(
    help="Look at messages of Celery apps that nothing could be made of.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("redis_url", "key_prefix")


@celery.command("letters")
@flags.service(*_SETTINGS)
def letters(
    settings: Settings,
    limit: Annotated[int, typer.Option("--limit", help="Show at most so many.")] = 50,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON, messages included.")] = False,
) -> None:
    """List messages that were put aside, newest first."""
    if limit < 1:
        raise InvalidInput(f"--limit takes 1 or more, and not {limit}.")
    found = _ask(settings, lambda letters: letters.newest(most=limit))
    if raw:
        print(msgspec.json.encode([_shown(letter) for letter in found]).decode())
        return
    for letter in found:
        print(f"{_time(letter)}  {letter.queue}  {letter.id or '-'}  {letter.reason}")
    if not found:
        print("No message was put aside.")


@celery.command("drop")
@flags.service(*_SETTINGS)
def drop(settings: Settings) -> None:
    """Delete all messages that were put aside."""
    number = _ask(settings, lambda letters: letters.drop())
    print(f"dropped {number} {'message' if number == 1 else 'messages'}")


def _shown(letter: "Letter") -> dict[str, object]:
    return {
        "queue": letter.queue,
        "id": letter.id or None,
        "reason": letter.reason,
        "at": _time(letter),
        "message": base64.b64encode(letter.message).decode(),
    }


def _time(letter: "Letter") -> str:
    return datetime.fromtimestamp(letter.at_ms / 1000, UTC).isoformat(timespec="seconds")


def _ask(settings: Settings, what: "Callable[[Letters], Awaitable[T]]") -> T:
    """Do something with what was put aside.

    Raises:
        ConfigurationError: no tasks are taken in here.
        Unavailable: Redis is out of reach.
    """
    from forebay.background.ingress.apps import home_of
    from forebay.background.ingress.letters import Letters

    if not settings.celery_broker_url:
        raise ConfigurationError(
            "No tasks of Celery apps are taken in: FOREBAY_CELERY_BROKER_URL (celery_broker_url) "
            "is not set."
        )
    there = msgspec.structs.replace(settings, redis_url=home_of(settings))
    return ask(there, lambda redis, keys: what(Letters(redis, keys.prefix)))
