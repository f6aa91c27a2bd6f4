"""`forebay models`: build them, say what is built and what they take; what a catalog may hold."""

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.cli.assess import assess
from forebay.contract.errors import InvalidInput
from forebay.runtime.settings import Configuration

models = typer.Typer(
    help="Build models, and list what is built.", no_args_is_help=True, rich_markup_mode=None
)
models.add_typer(assess)


@models.command("build")
@flags.configured("home", "models_file")
def build(
    configuration: Configuration,
    name: Annotated[str | None, typer.Argument(help="The model, as in models.toml.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Build every model.")] = False,
) -> None:
    """Turn a model's source into an artifact that workers can serve."""
    from forebay.cli.build import run
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    catalog = catalogs.read(Path(settings.models_file))
    if everything == (name is not None):
        raise InvalidInput("Name one model to build, or say --all.")
    specs = list(catalog.models.values()) if name is None else [catalog.find(name)]
    for spec in specs:
        if spec.is_built:
            run(settings, spec)
        elif name:
            print(f"{name} needs no artifact: there is nothing to build.")


@models.command("list")
@flags.configured("home", "models_file")
def list_(configuration: Configuration) -> None:
    """List the models, and what is built of each."""
    from forebay.cli.show import print_models
    from forebay.runtime import catalog as catalogs
    from forebay.storage.artifacts import ArtifactStore

    settings = configuration.settings
    print_models(catalogs.read(Path(settings.models_file)), ArtifactStore(settings.home))


@models.command("check")
@flags.configured("home", "models_file", "log_level")
def check(
    configuration: Configuration,
    name: Annotated[str, typer.Argument(help="The model, as in models.toml.")],
) -> None:
    """Load a model as a worker does, run its samples, and say what it takes.

    A python model's code is run, and what it prints goes to stderr.
    """
    from forebay.cli.check import run
    from forebay.runtime import catalog as catalogs

    settings = configuration.settings
    catalog = catalogs.read(Path(settings.models_file))
    run(settings, catalog.find(name), catalog.models)


@models.command("schema")
def schema() -> None:
    """Print the JSON schema of models.toml, for editors."""
    from forebay.runtime.schema import catalog_schema_text

    print(catalog_schema_text(), end="")
