"""`forebay`: the verbs, and what an error looks like to people.

Every verb imports what it runs only when it runs, so that `forebay --help` is quick and a worker
holds no more than a worker needs.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.cli.models import models
from forebay.contract.errors import ForebayError

app = typer.Typer(
    name="forebay",
    help="Self-hosted serverless inference on a Redis queue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="models")

INTERRUPTED = 130


def main() -> None:
    """Run the command line; errors made on purpose become one line and exit code 1."""
    try:
        app()
    except ForebayError as error:
        print(f"forebay: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"forebay {metadata.version('forebay')}")
        raise typer.Exit


@app.callback()
def forebay(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Self-hosted serverless inference on a Redis queue."""


@app.command()
def up(
    home: flags.Home = None,
    models_file: flags.ModelsFile = None,
    redis_url: flags.RedisUrl = None,
    key_prefix: flags.KeyPrefix = None,
    durability: flags.Durability = None,
    host: flags.Host = None,
    port: flags.Port = None,
    log_level: flags.LogLevel = None,
) -> None:
    """Run everything on this machine, until Ctrl-C.

    Starts a Redis-compatible server of its own (or uses --redis-url), the background worker and
    its clock, one worker for each model, and the gateway; builds what is not built yet.
    """
    from forebay.cli.up import run

    run(
        flags.configure(
            home=home,
            models_file=models_file,
            redis_url=redis_url,
            key_prefix=key_prefix,
            durability=durability,
            host=host,
            port=port,
            log_level=log_level,
        )
    )


@app.command()
def gateway(
    models_file: flags.ModelsFile = None,
    redis_url: flags.RedisUrl = None,
    key_prefix: flags.KeyPrefix = None,
    host: flags.Host = None,
    port: flags.Port = None,
    log_level: flags.LogLevel = None,
) -> None:
    """Run one gateway."""
    from forebay.gateway.app import serve
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    settings = flags.configure_service(
        models_file=models_file,
        redis_url=redis_url,
        key_prefix=key_prefix,
        host=host,
        port=port,
        log_level=log_level,
    )
    setup_logging(settings, "gateway")
    serve(settings, catalog.read(Path(settings.models_file)))


@app.command()
def worker(
    model: Annotated[str, typer.Argument(help="Name of the model, as in models.toml.")],
    home: flags.Home = None,
    models_file: flags.ModelsFile = None,
    redis_url: flags.RedisUrl = None,
    key_prefix: flags.KeyPrefix = None,
    log_level: flags.LogLevel = None,
) -> None:
    """Run one worker for a model."""
    from forebay.inference.worker import run
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    settings = flags.configure_service(
        home=home,
        models_file=models_file,
        redis_url=redis_url,
        key_prefix=key_prefix,
        log_level=log_level,
    )
    spec = catalog.read(Path(settings.models_file)).find(model)
    setup_logging(settings, f"worker:{model}")
    run(settings, spec)


@app.command()
def background(
    beat: Annotated[
        bool, typer.Option("--beat", help="Run the clock that schedules the work instead; one.")
    ] = False,
    home: flags.Home = None,
    models_file: flags.ModelsFile = None,
    redis_url: flags.RedisUrl = None,
    key_prefix: flags.KeyPrefix = None,
    log_level: flags.LogLevel = None,
) -> None:
    """Run the background worker: sweeps and retention."""
    from forebay.background.processes import run_beat, run_worker
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    settings = flags.configure_service(
        home=home,
        models_file=models_file,
        redis_url=redis_url,
        key_prefix=key_prefix,
        log_level=log_level,
    )
    setup_logging(settings, "beat" if beat else "background")
    (run_beat if beat else run_worker)(settings, catalog.read(Path(settings.models_file)))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    input_: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A text; or the whole input, as a JSON object."),
    ],
    url: Annotated[
        str | None, typer.Option("--url", help="The gateway's URL, if not on this machine.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--json", help="Print the whole prediction, nothing shortened.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", help="Give up after so many seconds.", min=0.1)
    ] = 60.0,
) -> None:
    """Ask a running gateway for one prediction."""
    from forebay.cli.predict import ask, read_input, task_of
    from forebay.cli.show import print_prediction
    from forebay.local.welcome import Address

    settings = flags.configure().settings
    url = url or Address(settings.host, settings.port).url
    body = read_input(input_, task_of(model, Path(settings.models_file)))
    print_prediction(ask(url, model, body, wait_s=wait_s), raw=raw)


@app.command()
def config() -> None:
    """Show every setting, its value, and where that came from."""
    from forebay.cli.show import print_configuration

    print_configuration(flags.configure())


@app.command()
def doctor() -> None:
    """Say what is missing here, and how to get it.

    Fails if `forebay up` could not run.
    """
    from forebay.cli.show import print_findings
    from forebay.local.doctor import examine

    findings = examine(flags.configure().settings)
    print_findings(findings)
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
