"""`forebay models check`: whether a model loads, and what it takes."""

import contextlib
import json
import sys

import msgspec

from forebay.cli.report import costs
from forebay.contract.errors import ArtifactError
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import load
from forebay.inference.backends.python import PythonModel
from forebay.inference.backends.tensors import TensorsModel
from forebay.inference.footprint import ProcessEnded, measure
from forebay.inference.generation.load import load as load_generator
from forebay.inference.generation.protocol import Generator
from forebay.inference.steps.model import PipelineModel
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from forebay.runtime.telemetry import setup_logging
from forebay.storage.artifacts import ArtifactStore


def run(settings: Settings, spec: ModelSpec, catalog: Catalog) -> None:
    """Load and warm a model; print its version and what a worker of it costs.

    What a row is like is printed too, where the model has a schema of it.

    Args:
        settings: the process's.
        spec: the model.
        catalog: all models; a pipeline's steps are among them.

    Raises:
        ArtifactError: it does not load, or fails on its samples.
        ConfigurationError: its class is not where its source says.
    """
    setup_logging(settings, f"check:{spec.name}")
    store = ArtifactStore(settings.home)
    footprint, failed = None, None
    if spec.source and spec.backend in (BackendName.PYTHON, BackendName.PIPELINE):
        # First where it may end the process: here nobody would be left to say so.
        steps = {name: catalog.find(name) for name in spec.steps}
        try:
            footprint = measure(spec, store.home, steps=steps)
        except ProcessEnded:
            raise
        except ArtifactError as error:
            failed = error
    with contextlib.redirect_stdout(sys.stderr):
        # A python model is not told to gateways: what serves may still be the code of before.
        backend: Backend | PipelineModel | Generator
        if spec.backend is BackendName.PYTHON:
            backend = PythonModel(spec)
        elif spec.backend is BackendName.PIPELINE:
            backend = PipelineModel(spec, catalog)
        elif spec.task is Task.GENERATION:
            backend = load_generator(spec, store)
        else:
            backend = load(spec, store)
        backend.warm()
        backend.close()
    if failed is not None:
        raise failed  # it has gone well this time
    told: dict[str, object] = {}
    if isinstance(backend, TensorsModel):
        for field, specs in (
            ("input", backend.signature.inputs),
            ("output", backend.signature.outputs),
        ):
            told[field] = {spec.name: f"{spec.datatype} {list(spec.shape)}" for spec in specs}
        told["rows"] = "the first axis" if backend.signature.batched else "each runs alone"
    if isinstance(backend, PythonModel | PipelineModel):
        told["input"] = backend.description.input_schema
        if backend.description.output_schema:
            told["output"] = backend.description.output_schema
    if isinstance(backend, PipelineModel):
        print(f"{spec.name} {backend.version} loads; its steps: {', '.join(spec.steps)}.")
    else:
        footprint = footprint or measure(spec, store.home)
        if spec.is_built and (report := store.report(spec.name)) is not None:
            store.keep_report(spec.name, msgspec.structs.replace(report, footprint=footprint))
        print(f"{spec.name} {backend.version} loads, and has answered its samples.")
        print(costs(footprint))
    if told:
        print(json.dumps(told, indent=2, ensure_ascii=False))
