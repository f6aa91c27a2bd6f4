"""What a build measured, for people: one line on the whole, and a table of its steps."""

import msgspec

from forebay.build.pipeline import Built
from forebay.cli.show import print_table
from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import BuildReport, Drafts, Footprint, Manifest, Pace
from forebay.contract.tensors import TensorSignature
from forebay.storage.artifacts import ArtifactStore

_COLUMNS = ("step", "what", "MB", "closeness", "same", "invariance", "speed", "s", "")


def print_built(built: Built) -> None:
    """Print what a build gave."""
    _print_report(built.artifact.manifest, built.report)


def print_report(store: ArtifactStore, model: str, *, raw: bool) -> None:
    """Print the report of the artifact that serves a model.

    Args:
        store: where it is published.
        model: its name.
        raw: print JSON.

    Raises:
        ArtifactError: the model isn't built, or no report was kept.
    """
    artifact = store.open(model)
    report = store.report(model)
    if report is None:
        raise ArtifactError(
            f"{model!r} was published without a report: run `forebay models build {model}`."
        )
    if raw:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    _print_report(artifact.manifest, report)


def _print_report(manifest: Manifest, report: BuildReport) -> None:
    print(summary(manifest, report))
    if report.pace is not None:
        print(writing(report.pace, report.speed.threads))
    for one in report.drafts:
        print(drafting(one))
    if report.footprint is not None:
        print(costs(report.footprint))
    print_steps(report)


def summary(manifest: Manifest, report: BuildReport) -> str:
    """A build in one line."""
    if manifest.signature is not None and report.agreement is None:
        return _as_it_is(manifest, report, manifest.signature)
    return (
        f"{manifest.model} {manifest.version}: {manifest.precision}, {report.bytes / 1e6:.0f} MB "
        f"(FP32 {report.fp32_bytes / 1e6:.0f} MB), {_speed(report)}, {_close(report)}; "
        f"built in {report.seconds:.0f} s"
    )


def _as_it_is(manifest: Manifest, report: BuildReport, tensors: TensorSignature) -> str:
    """The same of an ONNX file, or of what became one."""
    rows = "rows are batched" if tensors.batched else "each row runs alone"
    made = report.conversion
    how = (
        "the file as it is"
        if made is None
        else f"converted by {made.by}, off by {made.difference:.1g} at most in {made.runs} runs"
    )
    return (
        f"{manifest.model} {manifest.version}: {how}, {report.bytes / 1e6:.1f} MB, "
        f"{rows}, {report.speed.rows_s:.0f} rows/s of {list(tensors.sample[0])} one by one; built "
        f"in {report.seconds:.0f} s"
    )


def writing(pace: Pace, threads: int) -> str:
    """How fast a model writes, and what its texts take, in one line."""
    return (
        f"With {threads} threads it writes {pace.tokens_s:.0f} tokens/s of one text, and "
        f"{pace.rows_tokens_s:.0f} of {pace.rows} at once; the first token of a prompt of "
        f"{pace.prompt_tokens} comes after {pace.first_token_ms:.0f} ms. A token's keys and values "
        f"take {pace.token_bytes / 1e3:.0f} kB: {pace.slot_bytes / 1e6:.0f} MB for a slot of "
        f"{pace.context:,} tokens, and {pace.slots * pace.slot_bytes / 1e6:.0f} MB for all "
        f"{pace.slots} slots."
    )


def drafting(drafts: Drafts) -> str:
    """What one way to draft is worth, in one line."""
    by = f"by {drafts.model}" if drafts.model else "by lookup"
    if not drafts.drafted:
        return (
            f"Drafts {by} are not worth their checks here: of {drafts.tokens:,} tokens none was "
            "drafted."
        )
    right = drafts.accepted / drafts.drafted
    return (
        f"With drafts {by} a text alone is written {drafts.ratio:.2f} times as fast "
        f"({drafts.tokens_s:.0f} tokens/s, {drafts.plain_tokens_s:.0f} without): of "
        f"{drafts.drafted:,} drafted tokens {right:.0%} were right."
    )


def print_steps(report: BuildReport) -> None:
    """Print a row for each step, and what its columns are; nothing for a report without steps."""
    if not report.steps:
        return
    rows = [
        (
            step.step,
            step.chosen,
            f"{step.after.bytes / 1e6:.1f}",
            f"{step.after.closeness:.5f}",
            f"{step.after.same:.3f}",
            f"{step.after.invariance:.6f}",
            f"{step.after.speed:.2f}",
            f"{step.seconds:.0f}",
            f"{'' if step.kept else 'not kept: '}{step.why}",
        )
        for step in report.steps
    ]
    print_table(_COLUMNS, rows)
    closeness, same = (
        ("mean cosine", "same nearest neighbour")
        if report.accuracy is not None
        else ("1 - mean difference of scores", "same best label")
    )
    print(
        f"closeness: {closeness} to FP32; same: {same}; speed: rows/s as a multiple of FP32's, "
        "one forward pass at a time",
        flush=True,
    )


def _speed(report: BuildReport) -> str:
    speed = report.speed
    spread = (
        ""
        if speed.low is None or speed.high is None
        else f" ({speed.low:.2f} to {speed.high:.2f}, {speed.streams} x {speed.threads} threads)"
    )
    if report.pace is not None:
        return f"{speed.ratio:.1f} times as fast as PyTorch in FP32"
    return f"{speed.ratio:.1f} times FP32's speed{spread}"


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
    if (fluency := report.fluency) is not None:
        return (
            f"perplexity {fluency.perplexity:.2f} where full precision has "
            f"{fluency.full_perplexity:.2f} (ratio {fluency.ratio:.3f}), the same likeliest token "
            f"on {fluency.same:.1%}, {fluency.company:.0%} of texts alike alone and in company"
        )
    return "nothing measured"


def costs(footprint: Footprint) -> str:
    """What a worker costs, in one line."""
    steps = {
        "import": footprint.import_ms,
        "load": footprint.load_ms,
        "warm": footprint.warm_ms,
    }
    told = ", ".join(f"{name} {ms / 1_000:.2f}" for name, ms in steps.items())
    return (
        f"A worker of it is ready in {sum(steps.values()) / 1_000:.2f} s ({told}), and holds "
        f"{footprint.rss_bytes / 1e6:.0f} MB, {footprint.peak_rss_bytes / 1e6:.0f} MB at most; it "
        f"imports {', '.join(footprint.imported) or 'none of the libraries of models'}."
    )
