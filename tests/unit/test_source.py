"""Finding a model's source, and reading what its folder says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from forebay.build import layout, source
from forebay.contract.errors import BuildFailed
from forebay.contract.network import Pooling

CONFIG = {
    "model_type": "bert",
    "hidden_size": 8,
    "vocab_size": 7,
    "max_position_embeddings": 512,
    "pad_token_id": 3,
}
POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
MODULES = (
    ("sentence_transformers.models.Transformer", ""),
    ("sentence_transformers.models.Pooling", "1_Pooling"),
    ("sentence_transformers.models.Normalize", "2_Normalize"),
)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def modules(*named: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": type_, "path": path} for type_, path in named]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small sentence-transformers folder."""
    root = tmp_path / "model"
    write(root / "config.json", CONFIG)
    write(root / "modules.json", modules(*MODULES))
    write(root / "1_Pooling" / "config.json", POOLING)
    write(root / "sentence_bert_config.json", {"max_seq_length": 64})
    write(root / "tokenizer_config.json", {"model_max_length": 128})
    words = {"[UNK]": 0, "<s>": 1, "</s>": 2, "[PAD]": 3, "a": 4, "b": 5, "c": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4, pad_id=3)
    tokenizer.save(str(root / "tokenizer.json"))
    save_file({"w": np.ones((2, 2), np.float32)}, str(root / "model.safetensors"))
    return root


def test_a_folder_is_found_and_its_weights_hashed(folder: Path) -> None:
    found = source.resolve(str(folder))
    assert found.folder == folder
    save_file({"w": np.zeros((2, 2), np.float32)}, str(folder / "model.safetensors"))
    assert source.resolve(str(folder)).sha256 != found.sha256


def test_every_shard_counts_in_the_hash(folder: Path) -> None:
    one = source.resolve(str(folder)).sha256
    save_file({"v": np.ones(3, np.float32)}, str(folder / "more.safetensors"))
    assert source.resolve(str(folder)).sha256 != one


def test_a_folder_inside_a_package_is_found_without_importing_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carries_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    folder.rename(package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source.resolve("package:carries_weights/model").folder == package / "model"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("package:no_such_package_here/model", "'no_such_package_here'.*not installed"),
        ("package:json/../../secrets", "write `package:NAME/FOLDER`"),
        ("package:a.b/model", "write `package:NAME/FOLDER`"),
        ("package:/etc", "write `package:NAME/FOLDER`"),
        ("package:json/no-such-folder", "is no folder"),
        ("no/such/folder", "is no folder"),
    ],
)
def test_a_source_that_is_not_there_says_why(name: str, said: str) -> None:
    with pytest.raises(BuildFailed, match=said):
        source.resolve(name)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "x.pkl"])
def test_weights_that_are_only_a_pickle_are_refused_by_name(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(BuildFailed, match=rf"{name} is a pickle.*safetensors only"):
        source.resolve(str(folder))


def test_a_pickle_beside_safetensors_is_left_alone(folder: Path) -> None:
    before = source.resolve(str(folder)).sha256
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert source.resolve(str(folder)).sha256 == before


def test_a_folder_without_weights_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BuildFailed, match="has no weights"):
        source.resolve(str(folder))


def test_weights_that_are_cut_short_are_refused_by_name(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(BuildFailed, match=r"model\.safetensors is not a whole safetensors file"):
        source.resolve(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BuildFailed, match=f"{name} is missing"):
        source.resolve(str(folder))


def test_a_shard_that_the_index_names_must_be_there(folder: Path) -> None:
    index = {"weight_map": {"w": "model.safetensors", "v": "model-00002.safetensors"}}
    write(folder / "model.safetensors.index.json", index)
    with pytest.raises(BuildFailed, match=r"model-00002\.safetensors is missing.*one of 2 files"):
        source.resolve(str(folder))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "bert", "auto_map": {"AutoModel": "own.Model"}},
            "Python code from its own",
        ),
        ({"model_type": "no-such-kind"}, "of the kind 'no-such-kind', which this version of"),
        ([], "is no JSON object"),
    ],
)
def test_an_architecture_that_is_not_known_is_refused_and_the_file_named(
    folder: Path, config: Any, said: str
) -> None:
    write(folder / "config.json", config)
    with pytest.raises(BuildFailed, match=rf"config\.json .*{said}"):
        source.resolve(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(BuildFailed, match=r"config\.json can't be read"):
        source.resolve(str(folder))


def test_an_architecture_that_is_known_passes(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "model_type": "bert"})
    assert source.resolve(str(folder)).folder == folder


def test_a_relative_folder_is_beside_the_catalog(folder: Path) -> None:
    assert source.resolve(folder.name, base=folder.parent).folder == folder
    with pytest.raises(BuildFailed, match=f"{folder.parent}/gone is no folder"):
        source.resolve("gone", base=folder.parent)


def test_the_layout_gives_pooling_limits_and_special_tokens(folder: Path) -> None:
    found = layout.read(folder)
    assert (found.pooling, found.normalize) == (Pooling.MEAN, True)
    limits = found.limits
    assert (limits.max_tokens, limits.dimensions, limits.vocabulary) == (64, 8, 7)
    assert (limits.pad_id, limits.prefix, limits.suffix) == (3, (1,), (2, 2))


def test_the_tokenizers_own_truncation_and_padding_are_off(folder: Path) -> None:
    assert len(layout.open_tokenizer(folder).encode("a b c a b c").ids) == 9
    assert len(layout.open_tokenizer(folder).encode("a").ids) == 4


def test_the_lowest_limit_of_all_holds(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    assert layout.read(folder).limits.max_tokens == 128
    (folder / "tokenizer_config.json").unlink()
    assert layout.read(folder).limits.max_tokens == 512


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling.CLS),
        ({"pooling_mode": "cls"}, Pooling.CLS),
        ({"pooling_mode": "mean"}, Pooling.MEAN),
    ],
)
def test_both_ways_of_naming_a_pooling_are_read(
    folder: Path, config: dict[str, Any], pooling: Pooling
) -> None:
    write(folder / "1_Pooling" / "config.json", config)
    assert layout.read(folder).pooling is pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {},
    ],
)
def test_a_pooling_that_is_not_supported_is_refused_and_the_file_named(
    folder: Path, config: dict[str, Any]
) -> None:
    write(folder / "1_Pooling" / "config.json", config)
    with pytest.raises(BuildFailed, match=r"1_Pooling.config\.json asks for .*; supported are"):
        layout.read(folder)


def test_a_model_that_does_not_normalize_is_read_as_such(folder: Path) -> None:
    write(folder / "modules.json", modules(*MODULES[:2]))
    assert layout.read(folder).normalize is False


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (modules(*MODULES, ("sentence_transformers.models.Dense", "3_Dense")), "'Dense'"),
        (modules(MODULES[0]), "names no Pooling"),
    ],
)
def test_a_model_with_parts_that_are_not_supported_is_refused(
    folder: Path, named: Any, said: str
) -> None:
    write(folder / "modules.json", named)
    with pytest.raises(BuildFailed, match=said):
        layout.read(folder)


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "tokenizer.json"])
def test_a_broken_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(BuildFailed, match=Path(name).name):
        layout.read(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", [1]),
        ("modules.json", [{"idx": 0}]),
        ("1_Pooling/config.json", []),
        ("sentence_bert_config.json", {"max_seq_length": "many"}),
        ("tokenizer_config.json", {"model_max_length": "many"}),
        ("config_sentence_transformers.json", {"prompts": 7}),
        ("config.json", {**CONFIG, "num_hidden_layers": "two"}),
        ("config.json", {**CONFIG, "max_position_embeddings": 3}),
    ],
)
def test_a_file_that_says_something_odd_is_named(folder: Path, file: str, content: Any) -> None:
    write(folder / file, content)
    with pytest.raises(BuildFailed, match=file.replace(".", r"\.")):
        layout.read(folder)


def test_a_configuration_may_call_its_fields_otherwise(folder: Path) -> None:
    write(folder / "config.json", {"model_type": "distilbert", "dim": 12, "vocab_size": 7})
    assert layout.read(folder).limits.dimensions == 12


def test_positions_before_the_first_are_taken_off_the_limit(folder: Path) -> None:
    for file in ("sentence_bert_config.json", "tokenizer_config.json"):
        (folder / file).unlink()
    write(folder / "config.json", {**CONFIG, "model_type": "roberta", "pad_token_id": 1})
    assert layout.read(folder).limits.max_tokens == 510


def test_a_limit_that_stands_for_none_is_none(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write(folder / "tokenizer_config.json", {"model_max_length": 10**30})
    assert layout.read(folder).limits.max_tokens == 512


def test_a_prompt_before_every_text_is_refused(folder: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    write(path, {"prompts": {"query": "query: "}, "default_prompt_name": None})
    layout.read(folder)
    write(path, {"prompts": {"query": "query: ", "no": ""}, "default_prompt_name": "query"})
    with pytest.raises(BuildFailed, match="the prompt 'query: ' before every text"):
        layout.read(folder)
    write(path, {"prompts": {"query": "query: ", "no": ""}, "default_prompt_name": "no"})
    layout.read(folder)


def test_lower_case_is_refused_where_the_tokenizer_does_not_make_it(folder: Path) -> None:
    write(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": True})
    layout.read(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "sentence_bert_config.json", {"do_lower_case": True})
    with pytest.raises(BuildFailed, match=r"sentence_bert_config\.json .*do_lower_case"):
        layout.read(folder)
