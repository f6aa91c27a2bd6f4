"""`forebay models evaluate`: data through a model, here or behind a gateway."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forebay.assess import artifacts, comparison
from forebay.assess.comparison import Comparison
from forebay.assess.evaluation import Evaluation, evaluate
from forebay.assess.evaluation import Progress as Far
from forebay.assess.lines import Lines
from forebay.assess.local import Local
from forebay.cli.predict import check_url
from forebay.cli.served import Served
from forebay.cli.show import print_table
from forebay.contract.errors import ForebayError
from forebay.contract.model import ModelSpec
from forebay.inference.backends.base import Backend
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore

HERE = "this process"


class Wanted(msgspec.Struct, frozen=True):
    """What is to be evaluated.

    Attributes:
        data: the file.
        limit: lines that are used at most; None uses all.
        truncate: cut rows over the limit.
        tolerance: of numbers.
        url: the gateway's; None runs the model in this process.
    """

    data: Path
    limit: int | None
    truncate: bool
    tolerance: float
    url: str | None


def run(
    settings: Settings,
    spec: ModelSpec,
    wanted: Wanted,
    *,
    against: str | None,
    output: Path | None,
    raw: bool,
) -> None:
    """Evaluate a model, compare it if that is asked, and print both.

    Raises:
        InvalidInput: the data, or what it is to be compared with, is not what it should be.
        ArtifactError: the model isn't built, or doesn't load.
        Unavailable: no gateway answers.
    """
    store = ArtifactStore(settings.home)
    # What is compared with comes first: it may fail, or take a build.
    other = comparison.read(Path(against)) if against and Path(against).is_file() else None
    with redirect_stdout(sys.stderr):  # whatever a python model's code prints
        if against is not None and other is None:
            other = _here(spec, wanted, _backend(spec, store, against))
        if wanted.url is None:
            found = _here(spec, wanted, artifacts.warm(spec, store))
        else:
            found = _there(spec, wanted, check_url(wanted.url))
    compared = None
    if other is not None:
        compared = comparison.compare(found, other)
    if output is not None:
        _write(output, found)
    if raw:
        told = {**msgspec.to_builtins(found), "rows_s": found.rows_s, "comparison": compared}
        for internal in ("columns", "lines"):
            told.pop(internal)
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        _print(found)
        if compared is not None:
            _print_comparison(compared)


def _backend(spec: ModelSpec, store: ArtifactStore, against: str) -> Backend:
    if against.lower() == "fp32":
        print(f"{spec.name} in full precision is built, unless it is kept.", file=sys.stderr)
        return artifacts.warm_fp32(spec, store)
    return artifacts.warm_version(spec, store, against)


def _here(spec: ModelSpec, wanted: Wanted, backend: Backend) -> Evaluation:
    try:
        return _evaluated(spec, wanted, Local(spec, backend), HERE)
    finally:
        backend.close()


def _there(spec: ModelSpec, wanted: Wanted, url: str) -> Evaluation:
    return _evaluated(spec, wanted, Served(url, spec.name), url)


def _evaluated(spec: ModelSpec, wanted: Wanted, runner: Local | Served, through: str) -> Evaluation:
    lines = Lines(wanted.data, limit=wanted.limit)
    with _progress(spec.name, wanted.limit) as progress:
        return evaluate(
            spec.name,
            spec.task,
            runner,
            lines,
            through=through,
            truncate=wanted.truncate,
            tolerance=wanted.tolerance,
            progress=progress,
        )


@contextmanager
def _progress(model: str, limit: int | None) -> Generator[Callable[[Far], None]]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        TextColumn(f"evaluating {model}:"),
        BarColumn(),
        TextColumn("{task.fields[examples]:,} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(model, total=1.0, examples=0)

        def told(far: Far) -> None:
            share = max(far.share, far.examples / limit if limit else 0.0)
            bars.update(bar, completed=share, examples=far.examples)

        yield told


def _write(path: Path, found: Evaluation) -> None:
    try:
        path.write_bytes(msgspec.json.encode(found) + b"\n")
    except OSError as error:
        raise ForebayError(f"{path} can't be written: {error.strerror}.") from error


def _print(found: Evaluation) -> None:
    print(
        f"{found.model} {found.version}: {found.examples:,} examples, {found.rows:,} rows in "
        f"{found.seconds:.1f} s, {found.rows_s:.0f} rows/s through {found.through}"
    )
    print_table(
        ("measure", "value", "95 % interval"),
        [
            (one.measure, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}")
            for one in found.figures
        ],
    )
    if found.undefined:
        print(f"{', '.join(found.undefined)}: not defined, as the rows are too few or all alike.")
    if found.details.labels:
        print()
        print_table(
            ("label", "precision", "recall", "F1", "support"),
            [
                (one.label, *(f"{n:.4f}" for n in (one.precision, one.recall, one.f1)),
                 f"{one.support:,}")
                for one in found.details.labels
            ],
        )  # fmt: skip
    if found.details.confusions:
        print()
        print_table(
            ("truth", "taken for", "rows"),
            [(one.truth, one.predicted, f"{one.rows:,}") for one in found.details.confusions],
        )
    if found.refused:
        print(
            f"\n{found.refused:,} left out, refused or failed on; --truncate cuts those too long:"
        )
        print_table(("line", "why"), [(str(one.line), one.error) for one in found.refusals])


def _print_comparison(compared: Comparison) -> None:
    print(f"\nAgainst {compared.model} {compared.version}, {compared.examples:,} examples of both:")
    print_table(
        ("measure", "this", "other", "difference", "95 % interval", "p", "test"),
        [
            (one.measure, f"{one.here:.4f}", f"{one.there:.4f}", f"{one.here - one.there:+.4f}",
             f"{one.low:+.4f} to {one.high:+.4f}", f"{one.p_value:.3g}", one.test)
            for one in compared.differences
        ],
    )  # fmt: skip
    print(compared.verdict)
