"""`forebay models profile`: what a model's time goes into."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from forebay.assess import artifacts
from forebay.assess.forms.load import form_of
from forebay.assess.lines import Lines
from forebay.assess.local import MOST_ROWS
from forebay.assess.profile.run import Cost, Profile, of_tokens, profile
from forebay.assess.rows import rows_of_lines, rows_of_texts, rows_to_profile
from forebay.cli.show import print_table
from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Row
from forebay.gateway.dialects.replicate.inputs import rows_of
from forebay.inference.backends.base import Backend, OfTensors
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore

SHOWN_NODES = 15
MOST_LINES = 4_096


def run(
    settings: Settings,
    spec: ModelSpec,
    *,
    rows: Path | None,
    samples: bool,
    batch: int | None,
    tokens: int | None,
    trace: Path | None,
    raw: bool,
) -> None:
    """Profile a model in this process, and print where its time goes.

    Raises:
        InvalidInput: the rows are not what the model takes.
        ArtifactError: it isn't built, or doesn't load.
    """
    store = ArtifactStore(settings.home)
    try:
        with redirect_stdout(sys.stderr):  # whatever a python model's code prints
            found = _profile(spec, store, rows, samples, batch, tokens, trace)
    except OSError as error:
        raise ForebayError(f"{error.filename} can't be written: {error.strerror}.") from error
    if raw:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print(found, trace)


def _profile(
    spec: ModelSpec,
    store: ArtifactStore,
    file: Path | None,
    samples: bool,
    batch: int | None,
    tokens: int | None,
    trace: Path | None,
) -> Profile:
    if spec.backend is BackendName.PIPELINE:
        raise InvalidInput(
            f"{spec.name!r} is a pipeline: its time goes into its steps, on lanes of their own. "
            f"Profile these: {', '.join(spec.steps)}."
        )
    backend = artifacts.warm(spec, store)
    try:
        rows = _rows(spec, store, backend, file, samples=samples)
        if tokens is not None:
            rows = [of_tokens(backend, rows[0], tokens)] * (batch or 1)
        return profile(spec.name, backend, rows, spec.batch, batch_rows=batch, trace_to=trace)
    finally:
        backend.close()


def _rows(
    spec: ModelSpec, store: ArtifactStore, backend: Backend, file: Path | None, *, samples: bool
) -> list[Row]:
    if file is not None and samples:
        raise InvalidInput("Say --rows or --samples, and not both.")
    if file is not None:
        return _read(spec, backend, file)
    if samples and spec.is_built and (texts := store.open(spec.name).manifest.samples):
        return rows_of_texts(spec.task, texts)
    return rows_to_profile(spec.task, backend)


def _read(spec: ModelSpec, backend: Backend, file: Path) -> list[Row]:
    """Rows of a data file, as `evaluate` takes one, or of a text or an image file a line."""
    tensors = backend.signature if isinstance(backend, OfTensors) else None
    lines, found, form = Lines(file, limit=MOST_LINES), list[Row](), None
    for line in lines:
        try:
            if line.data.startswith(b"{"):
                if form is None:
                    form = form_of(
                        spec.task, line.data, truncate=True, tolerance=0.0, folder=lines.folder
                    )
                input_ = msgspec.json.encode(form.read(line.data, line.number).input)
                asked = rows_of(spec, msgspec.Raw(input_), most=MOST_ROWS, tensors=tensors)
                found += asked.rows
            else:
                found += rows_of_lines(spec.task, [line.data.decode()], folder=lines.folder)
        except (InvalidInput, UnicodeDecodeError) as error:
            raise lines.wrong(line.number, str(error)) from error
    return found


def _print(found: Profile, trace: Path | None) -> None:
    print(
        f"{found.model} {found.version}: {found.rows:,} rows of {found.tokens:,} tokens in "
        f"{found.batches:,} batches, by {found.by} (which made it {found.overhead:.2f} times as "
        "long)"
    )
    _print_costs("stage", found.stages)
    print()
    _print_costs("function of" if found.by == "Python calls" else "operator", found.kinds)
    print()
    print_table(
        ("node", "operator", "calls", "total ms", "share", "mean µs", "shapes of the slowest"),
        [
            (cost.name, cost.kind, *_numbers(cost), cost.shapes)
            for cost in found.nodes[:SHOWN_NODES]
        ],
    )
    if len(found.nodes) > SHOWN_NODES:
        print(f"… and {len(found.nodes) - SHOWN_NODES:,} more: see --json")
    if trace is not None:
        print(f"\n{trace} can be opened at https://ui.perfetto.dev or chrome://tracing")


def _print_costs(of: str, costs: Sequence[Cost]) -> None:
    print_table(
        (of, "calls", "total ms", "share", "mean µs"),
        [(cost.name, *_numbers(cost)) for cost in costs],
    )


def _numbers(cost: Cost) -> tuple[str, str, str, str]:
    return (
        f"{cost.calls:,}",
        f"{cost.total_ms:.1f}",
        f"{cost.share:.1%}",
        f"{cost.mean_us:,.0f}",
    )
