"""`forebay models shadow`: how far shadows' outputs are from those that clients got."""

from datetime import datetime
from pathlib import Path

import msgspec

from forebay.cli.asking import ask
from forebay.cli.show import print_table
from forebay.contract.errors import InvalidInput
from forebay.lanes.keys import Keys
from forebay.lanes.shadows import Disagreement, Shadows
from forebay.runtime import catalog as catalogs
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings

COLUMNS = (
    *("version", "artifact", "rows", "differ", "mean", "largest"),
    *("sent", "waiting", "dropped", "failed", "gone", "since"),
)


def run(settings: Settings, name: str, *, raw: bool, reset: bool) -> None:
    """Print the disagreement of a model's shadows, or have them count from nothing again.

    Raises:
        InvalidInput: the model has no shadow.
        Unavailable: Redis can't be asked.
    """
    catalog = catalogs.read(Path(settings.models_file))
    spec = catalog.find(name)
    shadows = {
        version: catalog.version(spec, version).name
        for version, told in spec.versions.items()
        if told.shadow
    }
    if not shadows:
        raise InvalidInput(f"{name!r} has no shadow: give a version of it `shadow = true`.")

    async def read(redis: Commands, keys: Keys) -> dict[str, Disagreement]:
        books = Shadows(redis)
        if reset:
            for served in shadows.values():
                await books.forget(keys.of(served))
        return {
            version: await books.disagreement(keys.of(served))
            for version, served in shadows.items()
        }

    told = ask(settings, read)
    if raw:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        print_table(COLUMNS, [_row(version, one) for version, one in told.items()])


def _row(version: str, told: Disagreement) -> tuple[str, ...]:
    share = f" ({told.differ / told.rows:.1%})" if told.rows else ""
    since = datetime.fromtimestamp(told.since_s).astimezone().isoformat(" ", "seconds")
    return (
        version,
        told.of,
        str(told.rows),
        f"{told.differ}{share}",
        f"{told.sum / told.rows:.4g}" if told.rows else "",
        f"{told.max:.4g}" if told.rows else "",
        *(str(count) for count in (told.sent, told.waiting, told.dropped, told.failed, told.gone)),
        since if told.since_s else "",
    )
