"""`forebay models evaluate`, `profile` and `drift`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from forebay.cli import flags
from forebay.runtime.settings import Configuration, Settings

assess = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The model, as in models.toml.")]
Raw = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _quiet(settings: Settings) -> Settings:
    """For a verb that people wait for: only what goes wrong is said beside what it prints."""
    return msgspec.structs.replace(settings, log_level="warning")


@assess.command("evaluate")
@flags.configured("home", "models_file")
def evaluate(
    configuration: Configuration,
    name: Name,
    data: Annotated[
        Path, typer.Option("--data", help="The data: a JSON object a line, with its truth.")
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Use no more lines than so many.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Compare row by row with `fp32`, another version of the model, or a file that "
            "--output has written.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Ask the gateway there, instead of running the model here."),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut rows over the model's limit.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="By how much numbers of a value may differ.")
    ] = 0.0,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the whole evaluation there, as JSON.")
    ] = None,
    raw: Raw = False,
) -> None:
    """Run data with known truth through a model, and say how good its answers are."""
    from forebay.cli.evaluate import Wanted, run
    from forebay.runtime import catalog as catalogs
    from forebay.runtime.telemetry import setup_logging

    settings = configuration.settings
    setup_logging(_quiet(settings), f"evaluate:{name}")
    spec = catalogs.read(Path(settings.models_file)).find(name)
    wanted = Wanted(data, limit, truncate, tolerance, url)
    run(settings, spec, wanted, against=against, output=output, raw=raw)


@assess.command("profile")
@flags.configured("home", "models_file")
def profile(
    configuration: Configuration,
    name: Name,
    rows: Annotated[
        Path | None,
        typer.Option("--rows", help="Run these: a text a line, or lines as `evaluate` takes them."),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="Run the artifact's samples, and nothing else.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Rows in each batch, as they come.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="Make each row about so many tokens long.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Write a trace there that Perfetto and Chrome open."),
    ] = None,
    raw: Raw = False,
) -> None:
    """Say where a model's time goes, operator by operator.

    Without --rows it runs the texts that builds are measured on; a python model its samples.
    """
    from forebay.cli.profile import run
    from forebay.runtime import catalog as catalogs
    from forebay.runtime.telemetry import setup_logging

    settings = configuration.settings
    setup_logging(_quiet(settings), f"profile:{name}")
    spec = catalogs.read(Path(settings.models_file)).find(name)
    run(
        settings,
        spec,
        rows=rows,
        samples=samples,
        batch=batch,
        tokens=tokens,
        trace=trace,
        raw=raw,
    )


@assess.command("drift")
@flags.service("home", "models_file", "redis_url", "key_prefix")
def drift(
    settings: Settings,
    name: Name,
    since: Annotated[
        str, typer.Option("--since", help="The first day that counts: as 7d, or as 2026-11-22.")
    ] = "1d",
    set_reference: Annotated[
        bool,
        typer.Option("--set-reference", help="Take what was served since then as the reference."),
    ] = False,
    raw: Raw = False,
) -> None:
    """Say whether what a model is asked and answers has changed since its reference."""
    from forebay.cli.drift import run
    from forebay.runtime import catalog as catalogs

    spec = catalogs.read(Path(settings.models_file)).find(name)
    run(settings, spec, since=since, set_reference=set_reference, raw=raw)
