"""An artifact that is made and measured, but not published; and who is told how far that is."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from forebay.contract.build_steps import StepReport
from forebay.contract.manifest import (
    Accuracy,
    Agreement,
    BuildReport,
    Fluency,
    Manifest,
    Pace,
    Speed,
    TextLimits,
    Versions,
)
from forebay.contract.model import ModelSpec
from forebay.contract.signature import Conversion
from forebay.storage.artifacts import describe

Measured = Accuracy | Agreement | Fluency
"""How close a result is to full precision; each kind of model has its own way to tell."""

Progress = Callable[[str, float], None]
"""Told the step and the share of it that is done, 0..1."""


class Draft(msgspec.Struct, frozen=True):
    """What the build of any kind of model gives.

    Attributes:
        folder: the files.
        manifest: of those files.
        measured: the final graph against full precision; None of one that ships as it was given.
        fp32_bytes: size of the graph in full precision.
        smoothing: see `BuildReport`.
        kept_fp32: likewise.
        steps: likewise.
        pace: likewise.
        conversion: likewise.
    """

    folder: Path
    manifest: Manifest
    measured: Measured | None
    speed: Speed
    fp32_bytes: int
    smoothing: float = 0.0
    kept_fp32: tuple[str, ...] = ()
    steps: tuple[StepReport, ...] = ()
    pace: Pace | None = None
    conversion: Conversion | None = None

    def report(self, *, seconds: float) -> BuildReport:
        """What is kept beside the manifest."""
        return BuildReport(
            accuracy=self.measured if isinstance(self.measured, Accuracy) else None,
            agreement=self.measured if isinstance(self.measured, Agreement) else None,
            speed=self.speed,
            fp32_bytes=self.fp32_bytes,
            bytes=sum(file.bytes for file in self.manifest.files),
            smoothing=self.smoothing,
            kept_fp32=self.kept_fp32,
            seconds=round(seconds, 1),
            steps=self.steps,
            fluency=self.measured if isinstance(self.measured, Fluency) else None,
            pace=self.pace,
            conversion=self.conversion,
        )


def manifest_of(
    spec: ModelSpec,
    folder: Path,
    *,
    source_sha256: str,
    limits: TextLimits | None = None,
    samples: tuple[str, ...] = (),
    **parts: Any,
) -> Manifest:
    """The manifest of the files that are in a folder now.

    Args:
        spec: the model.
        folder: of the artifact.
        source_sha256: hash of the source's weights.
        limits: of a text model.
        samples: likewise.
        parts: what only some kinds of models have, by its field of the manifest.
    """
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    libraries = {name: importlib.metadata.version(name) for name in Versions.__struct_fields__}
    return Manifest(
        model=spec.name,
        task=spec.task,
        precision=spec.precision,
        source=spec.source,
        source_sha256=source_sha256,
        limits=limits,
        samples=samples,
        files=tuple(describe(folder, path.as_posix()) for path in files),
        versions=Versions(**libraries),
        **parts,
    )
