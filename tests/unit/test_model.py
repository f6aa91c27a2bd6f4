"""What a model's spec refuses."""

from typing import Any

import msgspec
import pytest

from forebay.contract import model_rules
from forebay.contract.class_source import ClassSource
from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec

ECHO = {"task": "echo", "backend": "echo"}
ONNX = {"task": "embedding", "backend": "onnx", "source": "models/x"}


def spec(**fields: Any) -> ModelSpec:
    return msgspec.convert({**ECHO, **fields}, ModelSpec)


def test_a_checked_spec_carries_its_name_and_keeps_its_fields() -> None:
    checked = model_rules.checked(msgspec.convert(ONNX, ModelSpec), "mini-lm_1.5")
    assert checked.name == "mini-lm_1.5"
    assert checked.source == "models/x"


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "a.b-c_d"])
def test_a_name_may_have_letters_digits_dots_and_dashes(name: str) -> None:
    assert model_rules.checked(spec(), name).name == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "a" * 64, "a b", "a{b}", "a:b", "a/b", "a\n"]
)
def test_a_name_that_could_break_a_key_or_a_url_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a model's name is"):
        model_rules.checked(spec(), name)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"batch": {"max_rows": 0}}, "batch.max_rows"),
        ({"batch": {"max_tokens": 0}}, "batch.max_tokens"),
        ({"batch": {"max_padding": 1.0}}, "batch.max_padding"),
        ({"batch": {"max_padding": -0.1}}, "batch.max_padding"),
        ({"batch": {"max_padding": float("nan")}}, "batch.max_padding"),
        ({"batch": {"target_ms": 0}}, "batch.target_ms"),
        ({"batch": {"target_ms": float("inf")}}, "batch.target_ms"),
        ({"batch": {"max_wait_ms": -1}}, "batch.max_wait_ms"),
        ({"batch": {"max_wait_ms": float("inf")}}, "batch.max_wait_ms"),
        ({"batch": {"prefetch_rows": 0}}, "batch.prefetch_rows"),
        ({"realtime": {"max_rows": 0}}, "realtime.max_rows"),
        ({"realtime": {"deadline_s": 0}}, "realtime.deadline_s"),
        ({"realtime": {"deadline_s": float("inf")}}, "realtime.deadline_s"),
        ({"bulk": {"max_rows": 0}}, "bulk.max_rows"),
        ({"bulk": {"deadline_s": -1}}, "bulk.deadline_s"),
        ({"bulk": {"deadline_s": float("inf")}}, "bulk.deadline_s"),
        ({"threads": -1}, "threads"),
        ({"task": "embedding", "backend": "onnx"}, "source"),
        ({"task": "embedding"}, "backend"),
        ({"backend": "onnx", "source": "x"}, "backend"),
        ({"task": "classification"}, "backend"),
        ({"task": "reranking"}, "backend"),
        ({"task": "token-classification"}, "backend"),
        ({"task": "zero-shot"}, "backend"),
        ({"task": "zero-shot", "backend": "onnx"}, "source"),
        ({"backend": "python", "source": "m.py:M"}, "backend"),
        ({"task": "python", "backend": "python"}, "source"),
        ({"task": "python", "backend": "python", "source": "m.py"}, "source"),
        ({"task": "python", "backend": "python", "source": "m.py:a-b"}, "source"),
        ({"task": "python", "backend": "python", "source": "a-b.c:M"}, "source"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_full_name(
    fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        model_rules.checked(spec(**fields), "m")
    assert caught.value.message.startswith(f"models.m.{where}: must be ")


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("a/b.py:M", ClassSource("a/b.py", "M", True)),
        ("/a b/c-d.py:M", ClassSource("/a b/c-d.py", "M", True)),
        ("C:\\a.py:M", ClassSource("C:\\a.py", "M", True)),
        ("a.b:M", ClassSource("a.b", "M", False)),
    ],
)
def test_a_python_models_class_is_named_by_file_or_module(source: str, parsed: ClassSource) -> None:
    checked = model_rules.checked(spec(task="python", backend="python", source=source), "m")
    assert ClassSource.parse(checked.source) == parsed
    assert not checked.joins


def test_the_smallest_legal_values_are_accepted() -> None:
    checked = model_rules.checked(
        spec(
            batch={"max_rows": 1, "max_tokens": 1, "max_padding": 0.0, "prefetch_rows": 1},
            realtime={"max_rows": 1, "deadline_s": 0.001},
        ),
        "m",
    )
    assert checked.realtime.max_rows == 1


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="max_row"):
        spec(batch={"max_row": 1})


TORCH = {"task": "embedding", "backend": "torch", "source": "models/x"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({**TORCH, "device": "gpu"}, r"device: must be `cpu`, `cuda` or `cuda:N`"),
        ({**ONNX, "device": "cuda"}, r"device: must be left out unless the backend is 'torch'"),
        ({**ONNX, "torch": {"compile": True}}, r"models.x.torch: must be left out"),
        (
            {**TORCH, "build": {"prune": 0.5, "min_accuracy": 0.9}},
            r"build: must be `evaluation` and `min_accuracy` at most",
        ),
        ({**TORCH, "onnx": {"providers": ["cuda"]}}, r"models.x.onnx: must be left out"),
        ({**ONNX, "precision": "bf16"}, r"precision: must be one that the backend 'onnx' has"),
        ({**ONNX, "onnx": {"providers": []}}, r"providers: must be at least one"),
        (
            {**ONNX, "onnx": {"providers": ["cpu", "CPUExecutionProvider"]}},
            r"each of them once; known by short names are cpu, cuda, tensorrt, openvino",
        ),
        (
            {**ONNX, "onnx": {"provider_options": {"cuda": {"device_id": 1}}}},
            r"provider_options.cuda: must be one of `providers`, which are cpu",
        ),
    ],
)
def test_how_a_model_is_executed_must_fit_its_backend(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        model_rules.checked(msgspec.convert(fields, ModelSpec), "x")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_torch_model_names_its_device_and_precision(device: str, precision: str) -> None:
    fields = {**TORCH, "device": device, "precision": precision, "torch": {"compile": True}}
    checked = model_rules.checked(msgspec.convert(fields, ModelSpec), "x")
    assert (checked.device, checked.precision, checked.torch.compile) == (device, precision, True)
