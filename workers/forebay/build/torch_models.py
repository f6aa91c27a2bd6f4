"""The build of text models for the torch backend: weights in their precision, held against FP32."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from forebay.build import evaluate, heads, kinds, layout, source, texts, tracing
from forebay.build.draft import Draft, Progress, manifest_of
from forebay.build.encoder import Encoder, Pair, Row
from forebay.build.kinds import TextKind
from forebay.build.text_models import TOKENIZER
from forebay.contract.errors import ArtifactError, BuildFailed
from forebay.contract.execution import TorchOptions
from forebay.contract.manifest import Manifest
from forebay.contract.model import ModelSpec, Precision
from forebay.contract.network import Network
from forebay.contract.rows import Task
from forebay.networks.network import open_network, save
from forebay.networks.running import Runner
from forebay.runtime import processor


class TorchEncoder(Encoder):
    """A network in PyTorch on the CPU, where builds otherwise run a graph.

    Args:
        runner: runs it.
        output: name of what it gives.
    """

    def __init__(self, runner: Runner, *, output: str) -> None:
        self._runner = runner
        self.output = output

    def run(self, rows: Sequence[Row], outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """One forward pass, rows padded as a worker does; there is one output only."""
        ids = [row.ids if isinstance(row, Pair) else row for row in rows]
        segments = [row.segments if isinstance(row, Pair) else None for row in rows]
        return [self._runner.run(ids, segments)]


def make(spec: ModelSpec, work: Path, progress: Progress) -> Draft:
    """Write the artifact of a text model, and measure it beside eager FP32.

    Accuracy and speed are those of how it is served: compiled, if the spec says so.

    Args:
        spec: the model; its backend is `torch`.
        work: an empty folder.
        progress: told how far it is.

    Raises:
        BuildFailed: the weights can't be loaded, or the model doesn't run in this precision.
    """
    cores = processor.cores()
    threads = spec.threads or cores
    folder, full = work / "artifact", work / "fp32"
    folder.mkdir()
    full.mkdir()
    progress("source", 0.0)
    written = write(spec, folder, full=full)
    kind, manifest = written.kind, written.manifest

    progress("evaluate", 0.0)
    chosen = texts.gather(spec.folder, calibrate_on="", evaluate_on=spec.build.evaluation)
    rows = kind.rows(chosen.evaluation)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        reference = _encoder(written, full, Precision.FP32, TorchOptions())
        candidate = _encoder(written, folder, spec.precision, spec.torch)
        measured = kind.measured(kind.values(reference, rows), candidate, rows)
        progress("evaluate", 0.5)
        speed = evaluate.speed(
            reference, candidate, rows[::2], threads=threads, streams=max(1, cores // threads)
        )
    except (ArtifactError, RuntimeError, AttributeError, TypeError) as error:
        raise BuildFailed(
            f"{spec.name!r} does not run in PyTorch with precision {spec.precision.value!r}"
            f"{', compiled' if spec.torch.compile else ''}: {error}. Try `fp32`, not compiled."
        ) from error
    finally:
        torch.set_num_threads(before)
    size = sum(path.stat().st_size for path in full.iterdir())
    return Draft(folder, manifest, measured, speed, size)


class Written(msgspec.Struct, frozen=True):
    """An artifact's files, not measured.

    Attributes:
        kind: what the build of its task does its own way.
        manifest: of the files.
        network: how the weights are run.
    """

    kind: TextKind
    manifest: Manifest
    network: Network


def write(spec: ModelSpec, folder: Path, *, full: Path | None = None) -> Written:
    """Write a model's files.

    Args:
        spec: the model.
        folder: where; empty.
        full: where the weights are written in FP32 too, if anywhere.

    Raises:
        BuildFailed: the source isn't there or can't be loaded.
    """
    found = source.resolve(spec.source, base=Path(spec.folder))
    kind = kinds.read(found.folder, spec.task)
    network = _network(found.folder, kind, spec.task)
    kind.tokenizer.save(str(folder / TOKENIZER), pretty=False)
    with tracing.quiet():
        body = tracing.load(
            network.kind, found.folder, unused=("pooler.",) if network.pooling else ()
        )
        if full is not None:
            save(body, full, precision=Precision.FP32)
        save(body, folder, precision=spec.precision)
    manifest = manifest_of(
        spec,
        folder,
        source_sha256=found.sha256,
        limits=kind.limits,
        samples=texts.SAMPLES,
        head=kind.head,
        network=network,
    )
    return Written(kind, manifest, network)


def _encoder(
    written: Written, folder: Path, precision: Precision, options: TorchOptions
) -> TorchEncoder:
    network = written.network
    with tracing.quiet():
        opened = open_network(folder, network, precision=precision)
    runner = Runner(opened, written.kind.limits, segments=network.segments, options=options)
    runner.compile()
    return TorchEncoder(runner, output=written.kind.output)


def _network(folder: Path, kind: TextKind, task: Task) -> Network:
    """How the weights become a network."""
    if kind.head is None:
        form = layout.read(folder)
        return Network("AutoModel", form.pooling, form.normalize)
    return Network(heads.AUTO_CLASSES[task], segments=kind.head.segments)
