"""`forebay models check`: whether a model loads, and what it takes."""

import contextlib
import json
import sys

from forebay.contract.model import BackendName, ModelSpec
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import load
from forebay.inference.backends.python import PythonModel
from forebay.inference.backends.tensors import TensorsModel
from forebay.runtime.settings import Settings
from forebay.runtime.telemetry import setup_logging
from forebay.storage.artifacts import ArtifactStore


def run(settings: Settings, spec: ModelSpec) -> None:
    """Load and warm a model; print its version and, where it has one, the schema of a row.

    Raises:
        ArtifactError: it does not load, or fails on its samples.
        ConfigurationError: its class is not where its source says.
    """
    setup_logging(settings, f"check:{spec.name}")
    with contextlib.redirect_stdout(sys.stderr):
        # A python model is not told to gateways: what serves may still be the code of before.
        backend: Backend = (
            PythonModel(spec)
            if spec.backend is BackendName.PYTHON
            else load(spec, ArtifactStore(settings.home))
        )
        backend.warm()
    told: dict[str, object] = {}
    if isinstance(backend, TensorsModel):
        for field, specs in (
            ("input", backend.signature.inputs),
            ("output", backend.signature.outputs),
        ):
            told[field] = {spec.name: f"{spec.datatype} {list(spec.shape)}" for spec in specs}
        told["rows"] = "the first axis" if backend.signature.batched else "each runs alone"
    if isinstance(backend, PythonModel):
        told["input"] = backend.description.input_schema
        if backend.description.output_schema:
            told["output"] = backend.description.output_schema
    print(f"{spec.name} {backend.version} loads, and has answered its samples.")
    if told:
        print(json.dumps(told, indent=2, ensure_ascii=False))
