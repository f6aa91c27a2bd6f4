"""`forebay webhooks`: what was sent to receivers, sending it again, and what it is signed with."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from forebay.cli import flags
from forebay.cli.ages import age_s
from forebay.cli.asking import ask
from forebay.cli.endpoints import Action, Grace, endpoints, is_rotation
from forebay.contract.errors import ForebayError, InvalidInput, NotFound
from forebay.contract.notices import DeliveryState
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.keys import Keys
    from forebay.records.deliveries import Deliveries, Told
    from forebay.runtime.redis import Commands

T = TypeVar("T")

webhooks = typer.Typer(
    help="See what was sent to receivers, send it again, and what it is signed with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
webhooks.add_typer(endpoints, name="endpoints")

_SETTINGS = ("home", "redis_url", "key_prefix")

Raw = Annotated[bool, typer.Option("--json", help="Print JSON, nothing shortened.")]
InState = Annotated[DeliveryState | None, typer.Option("--state", help="Only those in this state.")]
To = Annotated[
    str | None, typer.Option("--to", metavar="URL", help="Only those to URLs that begin so.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="AGE", help="Only those made since 90s, 5m, 2h, 3d."),
]


@webhooks.command("list")
@flags.service(*_SETTINGS)
def list_(
    settings: Settings,
    state: InState = None,
    to: To = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 50,
    raw: Raw = False,
) -> None:
    """List webhooks, newest first."""
    from forebay.cli.deliveries import print_deliveries

    chosen = _chosen(state, to, since)

    async def newest(deliveries: "Deliveries") -> "list[Told]":
        found: list[Told] = []
        async for told in deliveries.newest():
            if chosen(told):
                found.append(told)
            if len(found) == limit:
                break
        return found

    print_deliveries(_ask(settings, newest), raw=raw)


@webhooks.command("show")
@flags.service(*_SETTINGS)
def show(
    settings: Settings,
    delivery: Annotated[str, typer.Argument(metavar="ID", help="Its webhook-id.")],
    raw: Raw = False,
) -> None:
    """Show one webhook: each attempt, what it was answered, and the body."""
    from forebay.cli.deliveries import print_delivery

    print_delivery(_ask(settings, lambda deliveries: _found(deliveries, delivery)), raw=raw)


@webhooks.command("replay")
@flags.service(*_SETTINGS)
def replay(
    settings: Settings,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="webhook-ids.")] = None,
    state: InState = None,
    to: To = None,
    since: Since = None,
) -> None:
    """Send webhooks again, under the ids that they have: those named, or all that are meant."""
    if bool(ids) == bool(state or to or since):
        raise InvalidInput("Name webhooks by their ids, or say which by --state, --to or --since.")
    chosen = _chosen(state, to, since)

    async def again(deliveries: "Deliveries") -> int:
        # Found first: what is replayed while the list is read would be in it again.
        meant = list(dict.fromkeys(ids or ()))
        if not ids:
            meant = [told.delivery.id async for told in deliveries.newest() if chosen(told)]
        done = 0
        for id_ in meant:
            if await deliveries.replay(id_):
                done += 1
            elif ids:
                raise _no_such(id_, before=done)
        return done

    print(f"{_ask(settings, again)} are sent again.")


@webhooks.command("secret")
@flags.service(*_SETTINGS)
def secret(
    settings: Settings,
    action: Action = None,
    grace: Grace = "24h",
) -> None:
    """Print what webhooks are signed with; with `rotate`, the new one."""
    rotates, grace_ms = is_rotation(action), age_s(grace) * 1000

    async def read(redis: "Commands", keys: "Keys") -> str:
        from forebay.records.signing import SecretStore

        store = SecretStore(redis, keys)
        found = await (store.rotate(grace_ms=grace_ms) if rotates else store.read())
        return found.current

    print(ask(settings, read))


def _chosen(
    state: DeliveryState | None, to: str | None, since: str | None
) -> "Callable[[Told], bool]":
    """Whether a webhook is meant by some options.

    Raises:
        InvalidInput: one of them can't be understood.
    """
    import time

    oldest_ms = 0.0 if since is None else (time.time() - age_s(since)) * 1000

    def chosen(told: "Told") -> bool:
        return (
            (state is None or told.state is state)
            and told.delivery.url.startswith(to or "")
            and told.made_at_ms >= oldest_ms
        )

    return chosen


async def _found(deliveries: "Deliveries", id_: str) -> "Told":
    told = await deliveries.told(id_)
    if told is None:
        raise _no_such(id_)
    return told


def _no_such(id_: str, *, before: int = 0) -> ForebayError:
    told = f" {before} were replayed before it." if before else ""
    return NotFound(f"There is no webhook {id_[:80]!r}, or it is no longer kept.{told}")


def _ask(settings: Settings, what: "Callable[[Deliveries], Awaitable[T]]") -> T:
    """Do something with the deliveries; see `ask`."""
    from forebay.records.deliveries import Deliveries

    return ask(settings, lambda redis, keys: what(Deliveries(redis, keys)))
