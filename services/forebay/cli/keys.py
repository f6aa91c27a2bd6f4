"""`forebay keys`: API keys, made, shown, revoked and given other secrets."""

import datetime
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from forebay.cli import flags
from forebay.cli.ages import age_s
from forebay.cli.asking import ask
from forebay.contract.errors import InvalidInput
from forebay.contract.prediction import Lane
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.records.api_keys import ApiKey, ApiKeys, Scopes

T = TypeVar("T")

keys = typer.Typer(
    help='Make and manage API keys, for gateways with `auth = "keys"`.',
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "redis_url", "key_prefix")

Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, the part behind `fb_`.")]
Raw = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _most(told: str) -> Any:
    return typer.Option(min=0, max=2**31, show_default=False, help=told)


@keys.command("create")
@flags.service(*_SETTINGS)
def create(
    settings: Settings,
    name: Annotated[str, typer.Option("--name", help="What to call it.")] = "",
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scopes",
            help="What it may ask for: models=a,b lanes=realtime,bulk admin dashboard. "
            "All models and lanes, if left out.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="AGE", help="Ends after 12h, 30d.")
    ] = None,
    requests_per_minute: Annotated[int, _most("Requests, at all gateways.")] = 0,
    concurrency: Annotated[int, _most("Requests answered at once.")] = 0,
    batch_rows: Annotated[int, _most("Rows of one request.")] = 0,
    raw: Raw = False,
) -> None:
    """Make a key, and print it. It is shown this once: only a digest of it is kept."""
    from forebay.records.api_keys import Limits

    wanted = read_scopes(scopes or ())
    lives_ms = 0 if expires is None else age_s(expires) * 1000
    if expires is not None and not lives_ms:
        raise InvalidInput("A key that expires at once is of no use: say --expires 30d.")
    if not name.isprintable() or len(name) > 100:
        raise InvalidInput("A name is up to 100 printable characters.")
    limits = Limits(requests_per_minute, concurrency, batch_rows)
    key, token = _ask(
        settings,
        lambda store: store.create(name=name, scopes=wanted, limits=limits, lives_ms=lives_ms),
    )
    _print_new(key, token, raw=raw)


@keys.command("list")
@flags.service(*_SETTINGS)
def list_(settings: Settings, raw: Raw = False) -> None:
    """List keys, the oldest first."""
    from forebay.cli.show import print_table

    found = _ask(settings, lambda store: store.all())
    if raw:
        print(json.dumps([told(key) for key in found], indent=2))
    elif not found:
        print("There are no API keys.")
    else:
        rows = [told(key) for key in found]
        columns = ("id", "name", "state", "created", "expires")
        print_table(columns, [tuple(row[column] or "" for column in columns) for row in rows])


@keys.command("show")
@flags.service(*_SETTINGS)
def show(settings: Settings, id_: Id, raw: Raw = False) -> None:
    """Show a key: what it may ask for, and how much."""
    found = told(_ask(settings, lambda store: store.find(plain(id_))))
    if raw:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        shown = value
        if isinstance(value, dict):
            shown = (
                ", ".join(f"{field} {_word(one)}" for field, one in value.items()) or "no limits"
            )
        print(f"{name:<8} {shown if shown is not None else 'never'}")


@keys.command("revoke")
@flags.service(*_SETTINGS)
def revoke(settings: Settings, id_: Id) -> None:
    """Have a key refused, by all gateways within 2 seconds; it can't be undone."""
    key = _ask(settings, lambda store: store.revoke(plain(id_)))
    print(f"{key.id} is revoked.")


@keys.command("rotate")
@flags.service(*_SETTINGS)
def rotate(
    settings: Settings,
    id_: Id,
    grace: Annotated[
        str, typer.Option("--grace", metavar="AGE", help="The old one is taken for so long, too.")
    ] = "0s",
    raw: Raw = False,
) -> None:
    """Give a key another secret, and print it. Its id, scopes and limits stay."""
    grace_ms = age_s(grace) * 1000
    key, token = _ask(settings, lambda store: store.rotate(plain(id_), grace_ms=grace_ms))
    _print_new(key, token, raw=raw)


def read_scopes(words: Sequence[str]) -> "Scopes":
    """The scopes that words like `models=a,b` and `admin` give.

    Raises:
        InvalidInput: a word is none, or comes again.
    """
    from forebay.records.api_keys import Scopes

    given: dict[str, Any] = {}
    for word in " ".join(words).split():
        name, equals, text = word.partition("=")
        several = tuple(dict.fromkeys(part for part in text.split(",") if part))
        if name in given:
            raise InvalidInput(f"{name} is there more than once.")
        if name in ("admin", "dashboard") and not equals:
            given[name] = True
        elif name == "models" and several:
            given[name] = several
        elif name == "lanes" and several and set(several) <= set(Lane):
            given[name] = tuple(Lane(lane) for lane in several)
        else:
            raise InvalidInput(
                f"{word[:80]!r} is no scope: say models=a,b, lanes=realtime,bulk, admin or "
                "dashboard."
            )
    return Scopes(**given)


def told(key: "ApiKey") -> dict[str, Any]:
    """What is shown of a key; nothing of its secret."""
    import time

    import msgspec

    scopes = key.scopes
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(int(time.time() * 1000)),
        "created": _date(key.created_at_ms),
        "expires": _date(key.expires_at_ms),
        "scopes": {
            "models": list(scopes.models) or "all",
            "lanes": [lane.value for lane in scopes.lanes] or "all",
            "admin": scopes.admin,
            "dashboard": scopes.dashboard,
        },
        "limits": msgspec.to_builtins(key.limits),
    }


def plain(text: str) -> str:
    """The id that is meant, which may be given with `fb_` before it.

    Raises:
        InvalidInput: a whole key is given: secrets don't belong on command lines.
    """
    id_ = text.removeprefix("fb_")
    if "_" in id_:
        raise InvalidInput(
            "Give the id alone, the part between `fb_` and the next `_`: others on this machine "
            "can read command lines."
        )
    return id_


def _print_new(key: "ApiKey", token: str, *, raw: bool) -> None:
    if raw:
        print(json.dumps({**told(key), "key": token}, indent=2))
        return
    print(token)
    typer.echo(f"This is shown once. Its id is {key.id}.", err=True)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _date(at_ms: int) -> str | None:
    if not at_ms:
        return None
    at = datetime.datetime.fromtimestamp(at_ms / 1000, tz=datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _ask(settings: Settings, what: "Callable[[ApiKeys], Awaitable[T]]") -> T:
    from forebay.records.api_keys import ApiKeys

    return ask(settings, lambda redis, builder: what(ApiKeys(redis, builder)))
