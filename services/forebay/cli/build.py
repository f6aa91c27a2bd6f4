"""The terminal's side of a build: how far it is, and what came out."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forebay.build.pipeline import STEPS, Built, build
from forebay.contract.errors import ForebayError
from forebay.contract.manifest import BuildReport
from forebay.contract.model import ModelSpec
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore


def run(settings: Settings, spec: ModelSpec) -> None:
    """Build one model, showing progress on stderr and the result on stdout.

    Raises:
        BuildFailed: a step failed, or the result is under the bar.
    """
    store = ArtifactStore(settings.home)
    show = _with_bar if sys.stderr.isatty() else _with_lines
    built = show(spec, store)
    _leave_reference(spec, store)
    print(summary(built), flush=True)


def _leave_reference(spec: ModelSpec, store: ArtifactStore) -> None:
    """What drift is held against. Without one the model serves as well, so nothing here fails."""
    from forebay.assess.reference import leave_reference

    if not spec.is_watched:
        return
    try:
        leave_reference(spec, store)
    except (ForebayError, OSError) as error:
        print(f"{spec.name} has no reference for drift: {error}", file=sys.stderr, flush=True)


def summary(built: Built) -> str:
    """What a build gave, in one line."""
    manifest, report = built.artifact.manifest, built.report
    return (
        f"{manifest.model} {manifest.version}: {manifest.precision}, {report.bytes / 1e6:.0f} MB "
        f"(FP32 {report.fp32_bytes / 1e6:.0f} MB), {report.speed.ratio:.1f} times FP32's speed, "
        f"{_close(report)}; built in {report.seconds:.0f} s"
    )


def _close(report: BuildReport) -> str:
    accuracy, agreement = report.accuracy, report.agreement
    if accuracy is not None:
        return (
            f"mean cosine to FP32 {accuracy.mean_cosine:.4f}, batch invariance "
            f"{accuracy.invariance:.6f}"
        )
    if agreement is not None:
        return (
            f"agreement with FP32 {agreement.same:.4f}, mean difference of scores "
            f"{agreement.mean_difference:.4f}, {agreement.variance:.6f} in other company"
        )
    return "nothing measured"


def _with_bar(spec: ModelSpec, store: ArtifactStore) -> Built:
    """For a terminal: one bar over all steps."""
    columns = (
        TextColumn(f"building {spec.name}:"),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(STEPS[0], total=len(STEPS))

        def progress(step: str, fraction: float) -> None:
            bars.update(bar, description=step, completed=STEPS.index(step) + fraction)

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
