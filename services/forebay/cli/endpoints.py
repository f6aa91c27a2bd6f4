"""`forebay webhooks endpoints`: receivers of what no request names a receiver for."""

import json
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from forebay.cli import flags
from forebay.cli.ages import age_s
from forebay.cli.asking import ask
from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.notices import Format
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.keys import Keys
    from forebay.records.endpoints import Endpoint
    from forebay.runtime.redis import Commands

endpoints = typer.Typer(
    help="Receivers of events whose requests name none: OpenAI's responses and batches.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_SETTINGS = ("home", "redis_url", "key_prefix")

EVENTS: Final = (
    *(f"response.{end}" for end in ("completed", "failed", "cancelled", "incomplete")),
    *(f"batch.{end}" for end in ("completed", "failed", "cancelled", "expired")),
)
"""What an endpoint can be told of."""

Url = Annotated[str, typer.Argument(metavar="URL", help="Where it is.")]
Action = Annotated[
    str | None, typer.Argument(metavar="[rotate]", help="Make another the current one.")
]
Grace = Annotated[
    str, typer.Option("--grace", metavar="AGE", help="The old one signs, too, for so long.")
]


@endpoints.command("list")
@flags.service(*_SETTINGS)
def list_(
    settings: Settings,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List them, and which have said that they want no more."""
    from forebay.cli.show import print_table

    async def all_(redis: "Commands", keys: "Keys") -> "tuple[list[Endpoint], list[str]]":
        from forebay.records.deliveries import Deliveries
        from forebay.records.endpoints import Endpoints

        return await Endpoints(redis, keys).all(), await Deliveries(redis, keys).gone()

    found, gone = ask(settings, all_)
    if raw:
        told = [{**msgspec.to_builtins(one), "disabled": one.url in gone} for one in found]
        print(json.dumps(told, indent=2))
    elif not found:
        print("There are no endpoints.")
    else:
        print_table(
            ("url", "events", "format", ""),
            [
                (
                    one.url,
                    ", ".join(one.events) or "all",
                    one.format.value,
                    "disabled: answered 410" if one.url in gone else "",
                )
                for one in found
            ],
        )


@endpoints.command("add")
@flags.service(*_SETTINGS, "egress_allow")
def add(
    settings: Settings,
    url: Url,
    events: Annotated[
        str, typer.Option("--events", help="Which, separated by commas; all, if left out.")
    ] = "",
    cloudevents: Annotated[
        bool, typer.Option("--cloudevents", help="Wrap what is sent as CloudEvents.")
    ] = False,
) -> None:
    """Add an endpoint, or change one."""
    from forebay.egress.rules import Rules

    # A receiver of this machine is refused when it is called, by who may not call it.
    Rules(settings.egress_allowed, loopback=True).place(url, param="URL")
    wanted = tuple(dict.fromkeys(name.strip() for name in events.split(",") if name.strip()))
    for name in wanted:
        if name not in EVENTS:
            raise InvalidInput(f"{name[:80]!r} is no event. Events: {', '.join(EVENTS)}.")

    async def put(redis: "Commands", keys: "Keys") -> None:
        from forebay.records.deliveries import Deliveries
        from forebay.records.endpoints import Endpoint, Endpoints

        form = Format.CLOUDEVENTS if cloudevents else Format.PLAIN
        await Endpoints(redis, keys).add(Endpoint(url, wanted, form))
        await Deliveries(redis, keys).welcome_back(url)

    ask(settings, put)
    print(f"{url} is told of {', '.join(wanted) or 'all events'}.")


@endpoints.command("remove")
@flags.service(*_SETTINGS)
def remove(settings: Settings, url: Url) -> None:
    """Remove an endpoint; what is under way to it still arrives."""

    async def drop(redis: "Commands", keys: "Keys") -> bool:
        from forebay.records.endpoints import Endpoints

        return await Endpoints(redis, keys).remove(url)

    if not ask(settings, drop):
        raise _no_such(url)
    print(f"{url} is removed.")


@endpoints.command("secret")
@flags.service(*_SETTINGS)
def secret(settings: Settings, url: Url, action: Action = None, grace: Grace = "24h") -> None:
    """Print what is signed with for an endpoint; with `rotate`, a new one of its own."""
    rotates, grace_ms = is_rotation(action), age_s(grace) * 1000

    async def read(redis: "Commands", keys: "Keys") -> str:
        from forebay.records.endpoints import Endpoints
        from forebay.records.signing import SecretStore

        if not await Endpoints(redis, keys).has(url):
            raise _no_such(url)
        store = SecretStore(redis, keys)
        found = await (store.rotate_of(url, grace_ms=grace_ms) if rotates else store.of(url))
        return found.current

    print(ask(settings, read))


@endpoints.command("enable")
@flags.service(*_SETTINGS)
def enable(settings: Settings, url: Url) -> None:
    """Call a receiver again that has answered 410, of whatever request it was."""

    async def back(redis: "Commands", keys: "Keys") -> bool:
        from forebay.records.deliveries import Deliveries

        return await Deliveries(redis, keys).welcome_back(url)

    if not ask(settings, back):
        raise NotFound(f"{url[:200]!r} is not disabled.")
    print(f"{url} is called again.")


def is_rotation(action: str | None) -> bool:
    """Whether a secret is to be rotated, and not only printed.

    Raises:
        InvalidInput: something else is to be done with it.
    """
    if action not in (None, "rotate"):
        raise InvalidInput(f"`secret` takes `rotate` or nothing, and not {action!r}.")
    return action is not None


def _no_such(url: str) -> NotFound:
    return NotFound(f"There is no endpoint {url[:200]!r}.")
