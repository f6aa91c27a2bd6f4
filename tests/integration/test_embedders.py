"""Embedding models of each family, from a folder to answers that equal those of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.build import pipeline
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import Embedding, Task, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures import families

TOLERANCE = 1e-4
TEXTS = (
    "The water rises behind the dam.",
    "a",
    "Turbines take an even flow: naïve, ÄRGER, 東京, 12.5 %!",
    "far too long for the model " * 40,
)

pytestmark = pytest.mark.slow


def expected(folder: Path, *, limit: int, pooling: str) -> list[Any]:
    """Unit vectors by transformers, of each text alone, cut to the limit."""
    import torch
    import transformers

    known: Any = transformers
    tokenizer = known.AutoTokenizer.from_pretrained(folder)
    model = known.AutoModel.from_pretrained(folder).eval()
    vectors: list[Any] = []
    for text in TEXTS:
        given = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        given.pop("token_type_ids", None)
        with torch.no_grad():
            tokens = model(**given).last_hidden_state[0]
        pooled = tokens[0] if pooling == "cls" else tokens.mean(0)
        vectors.append((pooled / pooled.norm()).numpy())
    return vectors


@pytest.mark.parametrize(
    ("family", "pooling", "limit"),
    [
        ("distilbert", "mean", families.LIMIT),
        ("roberta", "mean", families.LIMIT),
        ("deberta", "mean", None),
        ("deberta-v2", "cls", None),
        ("modernbert", "mean", 4 * families.LIMIT),
    ],
)
def test_embeddings_are_those_of_transformers(
    tmp_path: Path, family: str, pooling: str, limit: int | None
) -> None:
    folder = families.save_embedder(family, tmp_path / "source", pooling=pooling)
    spec = ModelSpec(
        Task.EMBEDDING,
        BackendName.ONNX,
        source=str(folder),
        precision=Precision.FP32,
        threads=1,
        name="tiny",
    )
    store = ArtifactStore(tmp_path / "home")
    limits = pipeline.build(spec, store).artifact.manifest.text
    assert limit in (None, limits.max_tokens)
    backend = load(spec, store)
    rows = backend.prepare([TextRow(text) for text in TEXTS], truncate=True)
    ready = [row for row in rows if isinstance(row, PreparedRow)]
    outputs = [output for output in backend.run(ready) if isinstance(output, Embedding)]
    assert len(outputs) == len(TEXTS)
    assert max(output.tokens for output in outputs) == limits.max_tokens
    wanted = expected(folder, limit=limits.max_tokens, pooling=pooling)
    for output, vector in zip(outputs, wanted, strict=True):
        assert np.abs(np.frombuffer(output.vector, np.float32) - vector).max() < TOLERANCE
