"""Execution providers by name: what a session is given, and what is said of those that lack."""

from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import OnnxOptions, ProviderOptions
from forebay.inference.backends.providers import CPU, CUDA, TENSORRT, check, sessions


def test_short_names_and_ort_s_own_are_taken_and_the_cpu_comes_last(tmp_path: Path) -> None:
    options = OnnxOptions(("cuda", "OpenVINOExecutionProvider"), {"cuda": {"device_id": 1}})
    assert sessions(options, home=tmp_path) == (
        (CUDA, {"device_id": 1}),
        ("OpenVINOExecutionProvider", {}),
        (CPU, {}),
    )
    assert sessions(OnnxOptions(), home=tmp_path) == ((CPU, {}),)


def test_engines_of_tensorrt_are_kept_under_home_unless_another_folder_is_given(
    tmp_path: Path,
) -> None:
    ((name, made), _) = sessions(OnnxOptions(("tensorrt",)), home=tmp_path)
    assert name == TENSORRT
    assert made["trt_engine_cache_enable"] is True
    assert Path(str(made["trt_engine_cache_path"])).is_dir()
    assert Path(str(made["trt_engine_cache_path"])).is_relative_to(tmp_path)
    given: ProviderOptions = {"trt_engine_cache_path": "/elsewhere", "trt_fp16_enable": True}
    ((_, other), _) = sessions(OnnxOptions(("tensorrt",), {"tensorrt": given}), home=tmp_path)
    assert other == {**made, **given}


@pytest.mark.parametrize(
    ("name", "package"),
    [
        (CUDA, "onnxruntime-gpu"),
        (TENSORRT, "onnxruntime-gpu"),
        ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    ],
)
def test_a_provider_that_is_not_there_is_told_with_the_package_that_brings_it(
    name: str, package: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check([name, CPU], [CPU, "AzureExecutionProvider"])
    assert f"no {name}; it has {CPU}, AzureExecutionProvider" in caught.value.message
    assert f"pip install {package}`" in caught.value.message


def test_a_provider_that_nobody_knows_is_to_be_corrected() -> None:
    check([CPU], [CPU])
    with pytest.raises(ConfigurationError, match=r"correct `onnx\.providers`"):
        check(["Nonsense"], [CPU])
