"""Graphs of generating models against transformers: the same logits, and the same texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.build.decoders import builder, graph, source, words
from forebay.build.decoders.builder import Job
from forebay.build.decoders.measure import Reference
from forebay.build.decoders.running import Ids, Runner
from forebay.build.graph import MODEL_FILE
from forebay.contract.model import Precision
from tests.fixtures.decoders import CONTEXT, FAMILIES, FORGOTTEN, SIZES, save

TOLERANCE = 2e-4
"""Of logits, which are some tens: relative to the largest."""

TOKENS = 20

FORGETFUL = ("mistral", "phi3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, and its graph in FP32 beside it, by one process of the builder."""
    root = tmp_path_factory.mktemp("families")
    made = {family: save(family, root / family) for family in FAMILIES}
    jobs = [Job(str(folder), f"{folder}-made", Precision.FP32) for folder in made.values()]
    builder.run(jobs)
    for folder in made.values():
        artifact = Path(f"{folder}-artifact")
        artifact.mkdir()
        graph.take(Path(f"{folder}-made"), artifact)
    return made


def opened(folder: Path) -> Runner:
    """The graph beside a folder."""
    path = Path(f"{folder}-artifact") / MODEL_FILE
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    decoder = graph.describe(path, config, words.read(folder))
    assert decoder.layers == SIZES["num_hidden_layers"]
    assert decoder.kv_heads == SIZES["num_key_value_heads"]
    assert decoder.head_size == SIZES["head_dim"]
    assert decoder.context == (FORGOTTEN if folder.name in FORGETFUL else CONTEXT)
    assert decoder.chat
    return Runner(path, decoder, threads=1)


def prompts() -> list[Ids]:
    """Three of different lengths."""
    draws = np.random.default_rng(3)
    return [draws.integers(3, 500, length) for length in (5, 31, 12)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_has_the_logits_and_the_texts_of_transformers(
    family: str, folders: dict[str, Path]
) -> None:
    folder = folders[family]
    source.check(folder / "config.json")
    runner, reference = opened(folder), Reference(folder)
    given = prompts()
    expected = reference.logits(given[1])
    assert np.abs(runner.logits(given[1]) - expected).max() < TOLERANCE * np.abs(expected).max()
    texts = [reference.write(prompt, tokens=TOKENS) for prompt in given]
    assert all(len(set(text)) > TOKENS // 4 for text in texts), "texts that say something"
    assert runner.write(given, tokens=TOKENS).texts == texts
