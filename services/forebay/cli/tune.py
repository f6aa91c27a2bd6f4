"""`forebay models tune`."""

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.runtime.settings import Configuration

tune = typer.Typer(rich_markup_mode=None)


@tune.command("tune")
@flags.configured("home", "models_file")
def tune_(
    configuration: Configuration,
    name: Annotated[str, typer.Argument(help="The model, as in models.toml.")],
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="Latency to be met: p99=50ms, or p50=10ms,p99=50ms."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            min=0,
            max=1,
            help="Least mean cosine to full precision, or share of rows with the same label.",
        ),
    ] = None,
    max_memory_mb: Annotated[
        float | None, typer.Option("--max-memory-mb", min=1, help="Most memory of one worker.")
    ] = None,
    cost_per_hour: Annotated[
        float | None,
        typer.Option(
            "--cost-per-hour", min=0, help="Of this machine: tells what a million rows cost."
        ),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes", min=0.1, help="About how long it may take after the first build."
        ),
    ] = 5.0,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Rows as in your traffic: a text or a JSON row a line."),
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the choice into models.toml, and have it served."),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show what is beaten in everything, too.")
    ] = False,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find the settings that serve a model best on this machine.

    Builds it in each precision, tries threads and batches, and measures the best of them: rows a
    second, latency of rows that come at random, and memory. Ctrl-C ends it with what is known.
    """
    from forebay.cli.tuned import Asked, run
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    asked = Asked(
        slo=slo,
        min_accuracy=min_accuracy,
        max_memory_mb=max_memory_mb,
        cost_per_hour=cost_per_hour,
        minutes=minutes,
        data=data,
        write=write,
        everything=everything,
        raw=raw,
    )
    run(settings, catalogs.read(Path(settings.models_file)).find(name), asked)
