"""`forebay`: the verbs, and what an error looks like to people.

Every verb imports what it runs only when it runs, so that `forebay --help` is quick and a worker
holds no more than a worker needs.
"""

import io
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.cli.autoscale import autoscale
from forebay.cli.batches import batches
from forebay.cli.cache import cache
from forebay.cli.celery import celery
from forebay.cli.dead import dead
from forebay.cli.keys import keys
from forebay.cli.models import models
from forebay.cli.triggers import triggers
from forebay.cli.webhooks import webhooks
from forebay.cli.workers import workers
from forebay.contract.errors import ErrorKind, ForebayError, InvalidInput
from forebay.runtime.process import EXIT_HOPELESS
from forebay.runtime.settings import Configuration, Settings

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
app.add_typer(dead, name="dead")
app.add_typer(workers, name="workers")
app.add_typer(autoscale, name="autoscale")
app.add_typer(cache, name="cache")
app.add_typer(batches, name="batches")
app.add_typer(celery, name="celery")
app.add_typer(triggers, name="triggers")
app.add_typer(webhooks, name="webhooks")
app.add_typer(keys, name="keys")

INTERRUPTED = 130
SERVICES = frozenset({"gateway", "worker", "background", "autoscale run"})
HOPELESS = frozenset({ErrorKind.CONFIGURATION, ErrorKind.ARTIFACT, ErrorKind.NOT_FOUND})


def main() -> None:
    """Run the command line; errors made on purpose become one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal or a pipe has no letters for is told by number.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except ForebayError as error:
        print(f"forebay: {error.message}", file=sys.stderr)
        raise SystemExit(_exit_code(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _exit_code(error: ForebayError) -> int:
    """1, or for a service what tells its supervisor that no other start would help."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    serves = any(" ".join(words[:count]) in SERVICES for count in (1, 2))
    hopeless = error.kind in HOPELESS
    return EXIT_HOPELESS if serves and hopeless else 1


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
@flags.configured(
    "home",
    "models_file",
    "redis_url",
    "key_prefix",
    "durability",
    "host",
    "port",
    "grpc_port",
    "auth",
    "allow_anonymous",
    "gateways",
    "worker_memory_mb",
    "idle_unload_s",
    "log_level",
)
def up(
    configuration: Configuration,
    one_worker: Annotated[
        bool, typer.Option("--one-worker", help="One worker for all models.")
    ] = False,
) -> None:
    """Run everything on this machine, until Ctrl-C.

    Starts a Redis-compatible server of its own (or uses --redis-url), the background worker and
    its clock, one worker for each model (or one for all), and the gateway, or several; builds what
    is not built yet.
    """
    from forebay.cli.up import run

    run(configuration, one_worker=one_worker)


@app.command()
@flags.service(
    "home",
    "models_file",
    "redis_url",
    "key_prefix",
    "host",
    "port",
    "grpc_port",
    "auth",
    "allow_anonymous",
    "reuse_port",
    "counts_dir",
    "log_level",
)
def gateway(settings: Settings) -> None:
    """Run one gateway."""
    from forebay.gateway.app import serve
    from forebay.local.checks import check_exposure
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging
    from forebay.runtime.tracing import exporting

    check_exposure(settings)
    setup_logging(settings, "gateway")
    with exporting("forebay-gateway"):
        serve(settings, catalog.read(Path(settings.models_file)))


@app.command()
@flags.service(
    "home",
    "models_file",
    "redis_url",
    "key_prefix",
    "worker_memory_mb",
    "idle_unload_s",
    "log_level",
)
def worker(
    settings: Settings,
    models: Annotated[list[str] | None, typer.Argument(help="Models, or MODEL@VERSION.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Serve every model.")] = False,
) -> None:
    """Run one worker, for one model or several.

    Of several, each is loaded when it has something to do and there is room for it.
    """
    from forebay.inference.worker import run
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging
    from forebay.runtime.tracing import exporting

    if everything == bool(models):
        raise InvalidInput("Name the models to serve, or say --all.")
    known = catalog.read(Path(settings.models_file))
    named = [known.find(name) for name in dict.fromkeys(models or ())]
    specs = named or known.wanted
    setup_logging(settings, f"worker:{specs[0].name}" if len(specs) == 1 else "worker")
    with exporting("forebay-worker"):
        run(settings, specs, known)


@app.command()
@flags.service("home", "models_file", "triggers_file", "redis_url", "key_prefix", "log_level")
def background(
    settings: Settings,
    beat: Annotated[
        bool, typer.Option("--beat", help="Run the clock that schedules the work instead; one.")
    ] = False,
) -> None:
    """Run the background worker: sweeps, retention, webhooks, batches, and work from elsewhere."""
    from forebay.background.processes import run_beat, run_worker
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    setup_logging(settings, "beat" if beat else "background")
    models = catalog.read(Path(settings.models_file))
    if beat:
        run_beat(settings, models)
    else:
        from forebay.gateway.dialects.replicate.notices import renderer
        from forebay.gateway.inside import Inside
        from forebay.gateway.versions import StoredVersions
        from forebay.runtime.tracing import exporting
        from forebay.storage.artifacts import ArtifactStore

        with exporting("forebay-background"):
            run_worker(
                settings,
                models,
                # What is said of a prediction is what a gateway shows of it.
                render=renderer(models, StoredVersions(ArtifactStore(settings.home))),
                open_gateway=lambda: Inside(settings, models).running(),
            )


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    input_: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A text, an image's path; or the whole input, as a JSON object."
        ),
    ],
    url: Annotated[
        str | None, typer.Option("--url", help="The gateway's URL, if not on this machine.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--json", help="Print the whole prediction, nothing shortened.")
    ] = False,
    wait_s: Annotated[float, typer.Option("--wait", help="Give up after so many seconds.")] = 60.0,
) -> None:
    """Ask a running gateway for one prediction; a text is shown while it is generated."""
    from forebay.cli.predict import ask, check_wait, read_input, task_of
    from forebay.cli.show import print_prediction
    from forebay.cli.texts import grows, show

    check_wait(wait_s)
    settings = flags.configure().settings
    address = _gateway_url(url, settings)
    task = task_of(model, Path(settings.models_file))
    body = read_input(input_, task)
    if grows(task, body) and not raw:
        show(address, model, body, wait_s=wait_s)
    else:
        print_prediction(ask(address, model, body, wait_s=wait_s), raw=raw)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Name of a model that generates text.")],
    url: Annotated[
        str | None, typer.Option("--url", help="The gateway's URL, if not on this machine.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="What the model is told before anything else.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", help="Give up after so many seconds of silence.")
    ] = 60.0,
) -> None:
    """Chat with a model, a message a line, until the input ends. Ctrl-C ends an answer."""
    from forebay.cli.predict import check_wait
    from forebay.cli.texts import converse

    check_wait(wait_s)
    address = _gateway_url(url, flags.configure().settings)
    converse(address, model, system=system, wait_s=wait_s)


def _gateway_url(given: str | None, settings: Settings) -> str:
    from forebay.local.welcome import Address

    return Address(settings.host, settings.port).url if given is None else given


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
