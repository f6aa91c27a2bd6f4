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
@flags.service("home", "models_file", "redis_url", "key_prefix", "host", "keda_port", "log_level")
def run(settings: Settings) -> None:
    """Tell how many replicas there should be, for whatever starts them.

    `forebay up` does that by itself. Elsewhere gateways pass it on at /autoscale/MODEL, which KEDA
    can read. With --keda-port KEDA is told at once that a model is wanted (external-push).
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


@autoscale.command()
def capacity(
    rates: Annotated[
        list[float], typer.Argument(metavar="RATE...", min=0.01, help="Requests a second.")
    ],
    hits: Annotated[
        float, typer.Option(min=0, max=1, help="Share that the response cache answers.")
    ] = 0.0,
    gateway_us: Annotated[
        float | None, typer.Option(min=0.1, help="CPU time of a gateway for a request, µs.")
    ] = None,
    hit_us: Annotated[
        float | None, typer.Option(min=0.1, help="Likewise for one from the response cache.")
    ] = None,
    redis_us: Annotated[
        float | None, typer.Option(min=0.1, help="Time of a Redis shard for a row, µs.")
    ] = None,
    row_us: Annotated[
        float | None, typer.Option(min=0.1, help="CPU time of a worker for a row, µs.")
    ] = None,
    kept_bytes: Annotated[
        float | None, typer.Option(min=1, help="What a result takes in Redis.")
    ] = None,
    kept_s: Annotated[
        float | None, typer.Option(min=0, help="How long results are kept, seconds.")
    ] = None,
    wait_s: Annotated[
        float | None, typer.Option(min=0, help="How long rows wait, seconds.")
    ] = None,
    busy: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of its time that a process is busy.")
    ] = 0.6,
    copies: Annotated[int, typer.Option(min=1, help="Of each Redis shard, all counted.")] = 3,
    core_price: Annotated[float, typer.Option(min=0, help="Of a core and an hour.")] = 0.04,
    gib_price: Annotated[
        float, typer.Option(min=0, help="Of a GiB of Redis's memory and an hour.")
    ] = 0.005,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Reckon what a rate takes: gateways, Redis shards and memory, workers, money.

    A model of the load, with what a request takes by docs/benchmarks.md (MiniLM on CPUs); give your
    own for another model.
    """
    from dataclasses import asdict

    import msgspec

    from forebay.autoscaler import capacity as reckoned
    from forebay.cli.show import print_table

    told = {
        "gateway_us": gateway_us,
        "hit_us": hit_us,
        "redis_us": redis_us,
        "row_us": row_us,
        "kept_bytes": kept_bytes,
        "kept_s": kept_s,
        "wait_s": wait_s,
    }
    costs = reckoned.Costs(**{name: value for name, value in told.items() if value is not None})
    terms = reckoned.Terms(
        hits=hits, busy=busy, copies=copies, core_price=core_price, gib_price=gib_price
    )
    found = [reckoned.capacity(rate, costs, terms) for rate in rates]
    if as_json:
        lines = [asdict(one) | {"per_million": one.per_million} for one in found]
        print(msgspec.json.format(msgspec.json.encode(lines), indent=2).decode())
        return
    columns = (
        "requests/s",
        "gateways",
        "shards",
        "Redis GiB",
        "worker cores",
        "an hour",
        "a million",
    )
    rows = [
        (
            f"{one.rate:,.0f}",
            f"{one.gateways:,}",
            f"{one.shards:,}",
            f"{one.redis_gib:,.1f}",
            f"{one.worker_cores:,}",
            f"{one.price:,.2f}",
            f"{one.per_million:.3f}",
        )
        for one in found
    ]
    print_table(columns, rows)
    most = reckoned.shard_rate(costs, terms)
    print(f"\nOne model has its lanes on one shard: {most:,.0f} rows a second at most.")
