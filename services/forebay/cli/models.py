"""`forebay models`: build them, say what is built and what they take; what a catalog may hold."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.cli.assess import assess
from forebay.cli.tune import tune
from forebay.contract.errors import BuildFailed, ForebayError, InvalidInput
from forebay.runtime.settings import Configuration, Settings

models = typer.Typer(
    help="Build models, and list what is built.", no_args_is_help=True, rich_markup_mode=None
)
models.add_typer(assess)
models.add_typer(tune)

_LIVE = ("home", "models_file", "redis_url", "key_prefix")

Model = Annotated[str, typer.Argument(help="The model, as in models.toml.")]
Force = Annotated[bool, typer.Option("--force", help="Even to a version that has no worker ready.")]


@models.command("build")
@flags.configured("home", "models_file")
def build(
    configuration: Configuration,
    name: Annotated[str | None, typer.Argument(help="The model, or MODEL@VERSION.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Build every model.")] = False,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            help="With --all: those alone that aren't built, or are from another specification.",
        ),
    ] = False,
) -> None:
    """Turn a model's source into an artifact that workers can serve."""
    from forebay.cli.build import run
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    catalog = catalogs.read(Path(settings.models_file))
    if everything == (name is not None):
        raise InvalidInput("Name one model to build, or say --all.")
    if missing and not everything:
        raise InvalidInput("--missing goes with --all: one model that is named is built anyway.")
    if name is not None:
        spec = catalog.find(name)
        if spec.is_built:
            run(settings, spec)
        else:
            print(f"{name} needs no artifact: there is nothing to build.")
        return
    specs = [spec for spec in catalog.served.values() if spec.is_built]
    if missing:
        from forebay.local.up import missing_artifacts

        specs = missing_artifacts(Path(settings.home), specs)
        if not specs:
            print("All models are built: there is nothing to do.")
    failed: list[str] = []
    for spec in specs:
        try:
            run(settings, spec)
        except ForebayError as error:
            print(f"{spec.name}: {error.message}", file=sys.stderr)
            failed.append(spec.name)
    if failed:
        raise BuildFailed(f"Not built: {', '.join(failed)}. The others were.")


@models.command("list")
@flags.configured("home", "models_file")
def list_(configuration: Configuration) -> None:
    """List the models, and what is built of each."""
    from forebay.cli.show import print_models
    from forebay.runtime import catalog as catalogs
    from forebay.storage.artifacts import ArtifactStore

    settings = configuration.settings
    print_models(catalogs.read(Path(settings.models_file)), ArtifactStore(settings.home))


@models.command("report")
@flags.configured("home", "models_file")
def report(
    configuration: Configuration,
    name: Annotated[str, typer.Argument(help="The model, as in models.toml.")],
    raw: Annotated[bool, typer.Option("--json", help="Print report.json itself.")] = False,
) -> None:
    """Show what the build of a model measured, step by step."""
    from forebay.cli.report import print_report
    from forebay.runtime import catalog as catalogs
    from forebay.storage.artifacts import ArtifactStore

    settings = configuration.settings
    spec = catalogs.read(Path(settings.models_file)).find(name)
    print_report(ArtifactStore(settings.home), spec.name, raw=raw)


@models.command("check")
@flags.configured("home", "models_file", "log_level")
def check(
    configuration: Configuration,
    name: Annotated[str, typer.Argument(help="The model, or MODEL@VERSION.")],
) -> None:
    """Load a model as a worker does, run its samples, and say what it takes.

    A python model's code is run, and what it prints goes to stderr.
    """
    from forebay.cli.check import run
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    catalog = catalogs.read(Path(settings.models_file))
    run(settings, catalog.find(name), catalog)


@models.command("traffic")
@flags.service(*_LIVE)
def traffic(
    settings: Settings,
    name: Model,
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VERSION=PERCENT]...",
            help="Shares to set, such as v2=10; the other versions share the rest as before.",
        ),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Show earlier changes.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Follow models.toml again.")] = False,
    force: Force = False,
) -> None:
    """Show which versions get a model's requests, or change it."""
    from forebay.cli.traffic import Verb

    if history + reset + bool(shares) > 1:
        raise InvalidInput("Give shares, --history or --reset: one of them.")
    verb = Verb(settings, name)
    if history:
        verb.show_history()
    elif reset:
        verb.reset(force=force)
    elif shares:
        verb.set(shares, force=force)
    else:
        verb.show()


@models.command("promote")
@flags.service(*_LIVE)
def promote(
    settings: Settings,
    name: Model,
    version: Annotated[str, typer.Argument(help="The version that is to get all requests.")],
    force: Force = False,
) -> None:
    """Give all of a model's requests to one version."""
    from forebay.cli.traffic import Verb

    Verb(settings, name).promote(version, force=force)


@models.command("rollback")
@flags.service(*_LIVE)
def rollback(settings: Settings, name: Model, force: Force = False) -> None:
    """Have the shares that stood before the last change; again, those before that."""
    from forebay.cli.traffic import Verb

    Verb(settings, name).roll_back(force=force)


@models.command("shadow")
@flags.service(*_LIVE)
def shadow(
    settings: Settings,
    name: Model,
    raw: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Count from nothing again.")] = False,
) -> None:
    """Show how far a model's shadows are from what clients got."""
    from forebay.cli.shadow import run

    run(settings, name, raw=raw, reset=reset)


@models.command("reload")
@flags.service(*_LIVE)
def reload(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="The model, or MODEL@VERSION.")],
) -> None:
    """Have workers take up what has been built since they started, one after another.

    Each first tries it in a process of its own, and goes on as it is if that fails.
    """
    from forebay.cli.reload import run

    run(settings, name)


@models.command("schema")
def schema() -> None:
    """Print the JSON schema of models.toml, for editors."""
    from forebay.runtime.schema import catalog_schema_text

    print(catalog_schema_text(), end="")
