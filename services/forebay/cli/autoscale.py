"""`forebay autoscale`: what the autoscaler would do."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import flags
from forebay.contract.errors import InvalidInput
from forebay.runtime.settings import Configuration, Settings

autoscale = typer.Typer(
    help="How replicas follow what is to be done.", no_args_is_help=True, rich_markup_mode=None
)


@autoscale.command()
@flags.service("home", "models_file", "redis_url", "key_prefix", "log_level")
def run(settings: Settings) -> None:
    """Tell how many replicas there should be, for whatever starts them.

    `forebay up` does that by itself. Elsewhere gateways pass it on at /autoscale/MODEL, which KEDA
    can read.
    """
    import uvloop

    from forebay.autoscaler.app import run as serve
    from forebay.runtime import catalog
    from forebay.runtime.telemetry import setup_logging

    setup_logging(settings, "autoscaler")
    uvloop.run(serve(settings, catalog.read(Path(settings.models_file))))


@autoscale.command()
@flags.configured("models_file")
def simulate(
    configuration: Configuration,
    traces: Annotated[
        list[str],
        typer.Argument(
            metavar="TRACE...",
            help="CSV files with the columns second and rows; or diurnal, bursts, on-off.",
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Whose replicas, deadlines and batches.")
    ] = "",
    rate: Annotated[float, typer.Option(min=0.01, help="Rows a second of one replica.")] = 50.0,
    start_s: Annotated[float, typer.Option(min=0, help="Until a replica is ready, seconds.")] = 2.0,
    peak: Annotated[
        float, typer.Option(min=0.01, help="Rows a second at the peak of a trace that is made up.")
    ] = 200.0,
    least: Annotated[
        int | None, typer.Option("--min", min=0, help="Replicas always there.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Replicas there may be.")] = None,
    idle_s: Annotated[
        float | None, typer.Option(min=0, help="What is not needed for so long goes.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For a plot of each trace, as SVG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Replay loads, and compare the policy with what others do.

    Each of the others has a number to be chosen (rows a replica, a delay): a range of them is
    tried, and the cheapest that is as quick as Forebay's policy is told, or else its quickest.
    Queue time is from a row's coming until it is done.
    """
    import msgspec

    from forebay.cli.show import print_table
    from forebay.cli.simulating import Asked, found_traces, lines_of, simulated

    asked = Asked.of(
        configuration.settings,
        model,
        rate=rate,
        start_s=start_s,
        least=least,
        most=most,
        idle_s=idle_s,
    )
    loads = found_traces(traces, peak)
    if output is not None and output.exists() and not output.is_dir():
        raise InvalidInput(f"--output {output} is not a folder.")

    def tell(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)

    told = []
    for trace in loads:
        found = simulated(trace, asked, tell=tell, output=output)
        tell("")
        told.append((trace, found))
    if as_json:
        compared = [lines_of(trace, found) for trace, found in told]
        print(msgspec.json.format(msgspec.json.encode(compared), indent=2).decode())
        return
    for trace, found in told:
        print(f"\n{trace.name}: {trace.total:,} rows in {len(trace.rows) / 60:,.0f} minutes")
        columns = ("policy", "replica-hours", "p50", "p99", "starts", "turns", "")
        print_table(columns, [line.row for line in lines_of(trace, found).policies])
    if output is not None:
        print(f"\nThe plots are in {output}.")
