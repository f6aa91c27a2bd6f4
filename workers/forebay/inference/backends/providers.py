"""ONNX Runtime's execution providers: which are asked for, which there are, and how to get others.

Imports no ONNX Runtime: `graph` does, and asks here what to make of it.
"""

from collections.abc import Sequence
from pathlib import Path

from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import PROVIDERS, OnnxOptions, ProviderOptions, Providers

CPU = PROVIDERS["cpu"]
CUDA = PROVIDERS["cuda"]
TENSORRT = PROVIDERS["tensorrt"]

PACKAGES = {
    CUDA: "onnxruntime-gpu",
    TENSORRT: "onnxruntime-gpu",
    PROVIDERS["openvino"]: "onnxruntime-openvino",
    "ROCMExecutionProvider": "onnxruntime-rocm",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
}
"""The package that brings a provider. Each holds an ONNX Runtime of its own: only one at a time can
be installed."""


def sessions(options: OnnxOptions, *, home: Path) -> Providers:
    """The providers of a session, the CPU's last, with what they need and were not given.

    Args:
        options: of the model.
        home: where TensorRT keeps the engines that it compiles, which takes it minutes each.
    """
    asked = [(name, {**_defaults(name, home), **given}) for name, given in options.sessions]
    if CPU not in (name for name, _ in asked):
        asked.append((CPU, {}))
    return tuple(asked)


def check(wanted: Sequence[str], available: Sequence[str]) -> None:
    """Make sure that all providers are there.

    Raises:
        ConfigurationError: one isn't; says which there are, and what to install.
    """
    for name in wanted:
        if name in available:
            continue
        package = PACKAGES.get(name)
        remedy = (
            f"`pip uninstall onnxruntime`, then `pip install {package}`, or name another in "
            "`onnx.providers`"
            if package
            else "correct `onnx.providers`"
        )
        raise ConfigurationError(
            f"This machine's ONNX Runtime has no {name}; it has {', '.join(available)}: {remedy}."
        )


def _defaults(name: str, home: Path) -> ProviderOptions:
    if name != TENSORRT:
        return {}
    folder = home / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }
