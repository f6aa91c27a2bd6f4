"""Models that generate in PyTorch: from a folder through an artifact to texts."""

import re
from pathlib import Path

import msgspec
import pytest

from forebay.build import pipeline
from forebay.build.decoders import words
from forebay.build.pipeline import Built
from forebay.contract.errors import ArtifactError, BuildFailed, ConfigurationError
from forebay.contract.execution import TorchOptions
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.recipe import BuildSpec
from forebay.contract.rows import Task
from forebay.inference.backends import load as backends
from forebay.inference.generation.load import load
from forebay.networks.network import CONFIG_FILE, WEIGHTS_FILE
from forebay.runtime import catalog
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.decoders import CONTEXT, save
from tests.fixtures.engines import asked, finish

GREEDY = Sampling(temperature=0, max_tokens=8, ignore_end=True)


def spec_of(folder: Path, **more: object) -> ModelSpec:
    settings: dict[str, object] = {
        "precision": Precision.BF16,
        "threads": 1,
        "build": BuildSpec(min_accuracy=0.0),
        "generation": GenerationTable(slots=2),
        **more,
    }
    spec = ModelSpec(Task.GENERATION, BackendName.TORCH, str(folder), **settings)  # type: ignore[arg-type]
    return checked(spec, "writer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen 3, whose head is its embedding."""
    where = tmp_path_factory.mktemp("source") / "qwen3"
    return save("qwen3", where, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """Where it is built."""
    return ArtifactStore(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def built(folder: Path, store: ArtifactStore) -> Built:
    """Its artifact in BF16; random weights have nothing that a bar of accuracy could mean."""
    return pipeline.build(spec_of(folder), store)


def test_an_artifact_has_weights_tokenizer_and_template_and_is_measured(built: Built) -> None:
    manifest, report = built.artifact.manifest, built.report
    assert {file.path for file in manifest.files} == {
        *(CONFIG_FILE, WEIGHTS_FILE, words.TOKENIZER, words.TEMPLATE)
    }
    assert manifest.backend is BackendName.TORCH
    assert manifest.decoder is not None
    assert (manifest.decoder.cache_type, manifest.decoder.context) == ("BF16", CONTEXT)
    assert manifest.decoder.token_bytes == 2 * 2 * 2 * 16 * 2  # layers, kinds, heads, size, bytes
    assert report.fluency is not None
    assert report.fluency.company == 1.0
    assert report.fluency.ratio == pytest.approx(1, abs=0.02)
    assert report.pace is not None
    assert min(report.pace.tokens_s, report.pace.rows_tokens_s) > 0


def test_it_is_served(built: Built, folder: Path, store: ArtifactStore) -> None:
    model = load(spec_of(folder), store)
    try:
        model.warm()
        requests = [asked(model, "over the weir", GREEDY, id_=id_) for id_ in range(3)]
        texts = finish(model.engine, requests)
        assert len({text.tokens for text in texts.values()}) == 1
        assert model.version == built.artifact.manifest.version
    finally:
        model.close()


def test_the_artifact_is_no_graph_and_no_longer_than_the_model(
    built: Built, folder: Path, store: ArtifactStore
) -> None:
    spec = spec_of(folder)
    graph = msgspec.structs.replace(spec, backend=BackendName.ONNX)
    with pytest.raises(ArtifactError, match="was built with backend 'torch'"):
        load(graph, store)
    long = msgspec.structs.replace(spec, generation=GenerationTable(context=CONTEXT + 1))
    with pytest.raises(ConfigurationError, match="context is 129, and this model was made for 128"):
        load(long, store)
    with pytest.raises(ConfigurationError, match="generates text"):
        backends.load(spec, store)


def test_a_device_that_is_not_there_is_named(
    built: Built, folder: Path, store: ArtifactStore
) -> None:
    with pytest.raises(ConfigurationError, match=r"no CUDA device.*'cuda' is asked for"):
        load(spec_of(folder, device="cuda"), store)


def test_a_model_whose_layers_keep_a_state_fails_its_build(
    folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    import transformers

    settings = transformers.MambaConfig(
        hidden_size=32, state_size=4, num_hidden_layers=1, vocab_size=600, expand=1
    )
    transformers.MambaForCausalLM(settings).save_pretrained(tmp_path / "mamba")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "mamba" / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(BuildFailed, match=r"'writer' can't be run over slots.*all of attention"):
        pipeline.build(spec_of(tmp_path / "mamba"), ArtifactStore(tmp_path / "home"))


def test_it_is_not_compiled() -> None:
    with pytest.raises(ConfigurationError, match="torch: must be left out: what generates text"):
        spec_of(Path("folder"), torch=TorchOptions(compile=True))


def test_the_tables_that_the_page_shows_are_taken(tmp_path: Path) -> None:
    page = Path("docs/text-models.md").read_text("utf-8")
    tables = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "models.toml"
    found: list[ModelSpec] = []
    for table in tables:
        path.write_text(table)
        found += catalog.read(path).models.values()
    assert {spec.backend.value for spec in found} >= {"onnx", "torch", "vllm"}


@pytest.mark.parametrize(("backend", "precision"), [("torch", "bf16"), ("onnx", "int4")])
def test_a_backend_has_a_precision_where_nothing_is_said(
    backend: str, precision: str, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        f'[models.writer]\ntask = "generation"\nbackend = "{backend}"\nsource = "folder"\n'
    )
    assert catalog.read(path).models["writer"].precision == precision
