"""The terminal's side of a build: how far it is, and what came out."""

import sys
import time

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forebay.assess import drafts
from forebay.build.pipeline import Built, build, steps
from forebay.cli.report import print_built
from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.model import ModelSpec
from forebay.inference.footprint import measure
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore


def run(settings: Settings, spec: ModelSpec) -> None:
    """Build one model, showing progress on stderr and the result on stdout.

    What a worker of it costs goes into the report, too, and what drafts are worth.

    Raises:
        BuildFailed: a step failed, or the result is under the bar.
        ArtifactError: what was built doesn't load as a worker loads it, or the model that drafts
            for it isn't built.
    """
    store = ArtifactStore(settings.home)
    show = _with_bar if sys.stderr.isatty() else _with_lines
    built = show(spec, store)
    leave_reference(spec, store)
    footprint = measure(spec, store.home)
    report = msgspec.structs.replace(
        built.report, footprint=footprint, drafts=drafts.measure(spec, store)
    )
    store.keep_report(spec.name, report)
    print_built(msgspec.structs.replace(built, report=report))


def leave_reference(spec: ModelSpec, store: ArtifactStore) -> None:
    """What drift is held against. Without one the model serves as well, so nothing here fails."""
    from forebay.assess import reference

    if not spec.is_watched:
        return
    try:
        reference.leave_reference(spec, store)
    except InvalidInput:
        print(
            f"{spec.name} takes no texts, so its build leaves none to hold drift against. Once it "
            f"has served, `forebay models drift {spec.name} --set-reference` takes what it did.",
            file=sys.stderr,
            flush=True,
        )
    except (ForebayError, OSError) as error:
        print(f"{spec.name} has no reference for drift: {error}", file=sys.stderr, flush=True)


def _with_bar(spec: ModelSpec, store: ArtifactStore) -> Built:
    """For a terminal: one bar over all steps."""
    columns = (
        TextColumn(f"building {spec.name}:"),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        names = steps(spec)
        bar = bars.add_task(names[0], total=len(names))

        def progress(step: str, fraction: float) -> None:
            bars.update(bar, description=step, completed=names.index(step) + fraction)

        return build(spec, store, progress=progress)


def _with_lines(spec: ModelSpec, store: ArtifactStore) -> Built:
    """For a log: one line a step."""
    began = time.monotonic()
    last = ""

    def progress(step: str, fraction: float) -> None:
        nonlocal last
        if step != last:
            seconds = time.monotonic() - began
            print(f"building {spec.name}: {step} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        last = step

    return build(spec, store, progress=progress)
