"""`forebay triggers`: check the file, and say what it may hold."""

from pathlib import Path

import typer

from forebay.cli import flags
from forebay.contract.errors import InvalidInput
from forebay.runtime.settings import Configuration

triggers = typer.Typer(
    help="Check which brokers' events run which models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@triggers.command("check")
@flags.configured("models_file", "triggers_file")
def check(configuration: Configuration) -> None:
    """Read triggers.toml as the background does, and say what each trigger does.

    Nothing is connected.
    """
    from forebay.background.triggers.table import read
    from forebay.cli.show import print_table
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    if not settings.triggers_file:
        raise InvalidInput(
            "Name the file: --triggers-file, or FOREBAY_TRIGGERS_FILE (triggers_file)."
        )
    found = read(Path(settings.triggers_file), catalogs.read(Path(settings.models_file)))
    rows = [
        (
            one.name,
            one.queue,
            one.model,
            " ".join(filter(None, (one.result.exchange, one.result.key))),
            one.dead_letters,
        )
        for one in found
    ]
    print_table(("trigger", "events from", "model", "results to", "dead letters"), rows)


@triggers.command("schema")
def schema() -> None:
    """Print the JSON schema of triggers.toml, for editors."""
    from forebay.background.triggers.schema import triggers_schema_text

    print(triggers_schema_text(), end="")
