"""Graphs of generating models against transformers: the same logits, and the same texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.build.decoders import builder, graph, source, words
from forebay.build.decoders.builder import Job
from forebay.build.decoders.graph import OPTIONS
from forebay.build.decoders.measure import Reference
from forebay.build.decoders.running import Ids, Runner
from forebay.build.graph import MODEL_FILE, WEIGHTS_FILE
from forebay.contract.manifest import Decoder
from forebay.contract.model import Precision
from forebay.inference.generation.drafting import ROWS
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.session import DecoderSession
from forebay.inference.generation.trial import trial
from tests.fixtures.decoders import CONTEXT, FAMILIES, FORGOTTEN, SIZES, save

TOLERANCE = 2e-4
"""Of logits, which are some tens: relative to the largest."""

TOKENS = 20

NEAR = {Precision.FP16: 0.99999, Precision.INT8: 0.998, Precision.INT4: 0.95}
"""How logits of a graph of fewer bits are correlated with PyTorch's, at least."""

CAPPED = "gemma2"
"""Its attention caps scores, for which ONNX Runtime has a kernel that looks at some rows before it
has stored others. So it does in FP16."""

NORMED = "qwen3"
"""Its queries and keys are normed, which CUDA's attention does by itself and the CPU's doesn't."""

FORGETFUL = ("mistral", "phi3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, and its graph in FP32 beside it, by one process of the builder."""
    root = tmp_path_factory.mktemp("families")
    made = {family: save(family, root / family) for family in FAMILIES}
    wanted = [(folder, Precision.FP32) for folder in made.values()]
    wanted += [(made["llama"], precision) for precision in NEAR]
    wanted += [(made[NORMED], Precision.FP16)]
    builder.run(
        [
            Job(str(folder), f"{folder}-{precision}", precision, OPTIONS.get(precision, ()))
            for folder, precision in wanted
        ]
    )
    for folder, precision in wanted:
        artifact = artifact_of(folder, precision)
        artifact.mkdir()
        graph.take(Path(f"{folder}-{precision}"), artifact)
    return made


def artifact_of(folder: Path, precision: Precision) -> Path:
    """Where the graph of a folder is."""
    return Path(f"{folder}-{precision}-artifact")


def described(folder: Path, precision: Precision) -> tuple[Path, Decoder]:
    """The graph beside a folder, and how it is run."""
    path = artifact_of(folder, precision) / MODEL_FILE
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return path, graph.describe(path, config, words.read(folder))


def opened(folder: Path, precision: Precision = Precision.FP32) -> Runner:
    """The graph beside a folder, opened."""
    path, decoder = described(folder, precision)
    assert decoder.layers == json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    assert decoder.kv_heads == SIZES["num_key_value_heads"]
    assert decoder.head_size == SIZES["head_dim"]
    assert decoder.context == (FORGOTTEN if folder.name in FORGETFUL else CONTEXT)
    assert decoder.cache_type == ("FP16" if precision is Precision.FP16 else "FP32")
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
    assert len({token for text in texts for token in text}) > TOKENS // 2, "it says something"
    assert runner.write(given, tokens=TOKENS).texts == texts


@pytest.mark.parametrize(
    ("family", "precision"), [*(("llama", one) for one in NEAR), (NORMED, Precision.FP16)]
)
def test_a_graph_of_fewer_bits_is_near_and_writes_alike_in_company(
    family: str, precision: Precision, folders: dict[str, Path]
) -> None:
    folder = folders[family]
    runner, given = opened(folder, precision), prompts()
    expected = Reference(folder).logits(given[1])
    likeness = np.corrcoef(runner.logits(given[1]).ravel(), expected.ravel())[0, 1]
    assert NEAR[precision] < likeness < 1
    alone = [runner.write([prompt], tokens=TOKENS).texts[0] for prompt in given]
    assert runner.write(given, tokens=TOKENS).texts == alone
    weights = artifact_of(folder, precision) / WEIGHTS_FILE
    full = artifact_of(folder, Precision.FP32) / WEIGHTS_FILE
    assert weights.stat().st_size < full.stat().st_size


@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, Precision.FP32) for family in FAMILIES] + [("llama", one) for one in NEAR],
)
def test_tokens_checked_at_once_have_the_bits_of_steps_or_are_found_out(
    family: str, precision: Precision, folders: dict[str, Path]
) -> None:
    path, decoder = described(folders[family], precision)
    pool = Pool(decoder, slots=1, capacity=decoder.context, rows=ROWS)
    costs = trial(DecoderSession(path, decoder, pool, chunk=16, threads=2))
    assert (costs is None) == (family == CAPPED or precision is Precision.FP16)
    assert not pool.take(0, decoder.context).any(), "nothing is left of the trial"
