"""What the verbs print: tables, and vectors short enough to read."""

import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forebay.contract.errors import ForebayError
from forebay.contract.model import BackendName, ModelSpec
from forebay.local.doctor import Finding
from forebay.runtime.catalog import Catalog
from forebay.runtime.processor import describe
from forebay.runtime.redis import mask
from forebay.runtime.settings import Configuration
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.descriptions import Descriptions
from forebay.storage.tunings import Tunings

PIPE_WIDTH = 200

SHOWN_NUMBERS = 4
"""Of a longer list of numbers, so many are shown."""


def print_prediction(prediction: dict[str, Any], *, raw: bool) -> None:
    """Print a prediction's output, or all of it.

    Raises:
        ForebayError: it did not succeed; says how it ended.
    """
    status = prediction["status"]
    try:
        if raw:
            print(json.dumps(prediction, indent=2, ensure_ascii=False))
        elif status == "succeeded":
            print(shorten(prediction.get("output")))
    except RecursionError:
        raise ForebayError("The answer nests too deeply to be shown.") from None
    if status == "succeeded":
        return
    if status in ("starting", "processing"):
        raise ForebayError(
            f"The prediction {prediction['id']} is not done yet: no worker may be running, or "
            "it needs a longer --wait."
        )
    raise ForebayError(f"The prediction {status}: {prediction.get('error') or 'no reason given'}")


def shorten(value: object) -> str:
    """A JSON value, in which long lists of numbers show their beginning and their length."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        # To Python true and false are numbers too.
        if len(items) > SHOWN_NUMBERS and {type(item) for item in items} <= {int, float}:
            first = ", ".join(_short(n) for n in cast("list[float]", items[:SHOWN_NUMBERS]))
            return f"[{first}, … {len(items)} numbers]"
        return f"[{', '.join(shorten(item) for item in items)}]"
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return f"{{{', '.join(f'{json.dumps(name)}: {shorten(item)}' for name, item in pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def _short(number: float) -> str:
    try:
        return f"{number:.6g}"
    except OverflowError:  # an integer that is too large for a float
        return f"{Decimal(number):.6g}"


def print_configuration(configuration: Configuration) -> None:
    """Print every setting, its value, where it came from and what it is; passwords masked."""
    table = _table("setting", "value", "from", "what it is")
    for origin in configuration.origins:
        value = origin.value.value if isinstance(origin.value, Enum) else origin.value
        shown = mask(str(value)) if origin.field.endswith("_url") else str(value)
        table.add_row(origin.field, shown, origin.source, origin.description)
    _console().print(table)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what is there and what is missing."""
    table = _table("", "what", "found", "how to get it")
    for finding in findings:
        mark = "OK" if finding.ok else "MISSING" if finding.required else "absent"
        style = "green" if finding.ok else "red" if finding.required else "yellow"
        remedy = "" if finding.ok else finding.remedy
        table.add_row(Text(mark, style=style), finding.name, finding.detail, remedy)
    _console().print(table)


def print_models(catalog: Catalog, store: ArtifactStore) -> None:
    """Print the models of the catalog, and what is built of each."""
    built = {artifact.manifest.model: artifact for artifact in store.entries() if artifact.current}
    descriptions = Descriptions(store.home)
    tunings = Tunings(store.home)
    table = _table("model", "task", "backend", "built", "tuned", "what it is")
    for spec in catalog.served.values():
        artifact = built.get(spec.name)
        if spec.backend in (BackendName.PYTHON, BackendName.PIPELINE):
            described = descriptions.read(spec.name, source=spec.source)
            state = "needs nothing" if described is None else described.version
        elif not spec.is_built:
            state = "needs nothing"
        elif artifact is None:
            state = "no"
        else:
            size = sum(entry.bytes for entry in artifact.manifest.files) / 1e6
            state = f"{artifact.manifest.version} {artifact.manifest.precision} {size:.0f} MB"
        tuned = _tuned(tunings, spec)
        table.add_row(spec.name, spec.task, spec.backend, state, tuned, spec.description)
    _console().print(table)


def _tuned(tunings: Tunings, spec: ModelSpec) -> str:
    """Where the settings were found to be the best, if they were."""
    tuning = tunings.read(spec.name)
    if tuning is None or not tuning.says(spec):
        return "no"
    return "here" if tuning.machine == describe() else f"on {tuning.machine}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns' names."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console() -> Console:
    # No markup: values come from outside. Into a pipe, rows stay whole.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(markup=False, highlight=False, width=width)
