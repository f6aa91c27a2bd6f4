"""How a backend is to execute a model: devices, execution providers, compilation."""

import re
from enum import StrEnum

import msgspec

from forebay.contract.errors import ConfigurationError

CPU = "cpu"

_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""ONNX Runtime's names of the execution providers that have a short one here."""

ProviderOptions = dict[str, str | int | float | bool]
"""Options of one execution provider, as ONNX Runtime documents them."""

Providers = tuple[tuple[str, ProviderOptions], ...]
"""Execution providers by ONNX Runtime's own names, the preferred one first, and options of each."""

ON_CPU: Providers = ((PROVIDERS[CPU], {}),)
"""The CPU's alone."""


class CompileMode(StrEnum):
    """What `torch.compile` aims at; PyTorch's own names."""

    DEFAULT = "default"
    REDUCE_OVERHEAD = "reduce-overhead"
    MAX_AUTOTUNE = "max-autotune"
    MAX_AUTOTUNE_NO_CUDAGRAPHS = "max-autotune-no-cudagraphs"


class TorchOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the torch backend executes a model.

    Attributes:
        compile: whether PyTorch compiles the model before it is ready, which takes a C++ compiler
            on the CPU, and from seconds to minutes at each start; else it runs eagerly.
        mode: what compilation aims at.
    """

    compile: bool = False
    mode: CompileMode = CompileMode.DEFAULT


class OnnxOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the onnx backend executes a model.

    Attributes:
        providers: ONNX Runtime's execution providers, the preferred one first: `cpu`, `cuda`,
            `tensorrt`, `openvino`, or any by ONNX Runtime's own name. What the first can't run is
            left to the next, and in the end to the CPU.
        provider_options: options of a provider, under the name it has in `providers`.
    """

    providers: tuple[str, ...] = (CPU,)
    provider_options: dict[str, ProviderOptions] = {}

    @property
    def sessions(self) -> Providers:
        """The providers by ONNX Runtime's own names, each with its options."""
        return tuple(
            (PROVIDERS.get(name, name), self.provider_options.get(name, {}))
            for name in self.providers
        )

    def check(self, where: str) -> None:
        """Hold the options against one another.

        Args:
            where: the table, for the message.

        Raises:
            ConfigurationError: no provider is named, one is named twice, or options are of none.
        """
        names = [name for name, _ in self.sessions]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(
                f"{where}.providers: must be at least one execution provider, each of them once; "
                f"known by short names are {', '.join(PROVIDERS)}."
            )
        for name in self.provider_options:
            if name not in self.providers:
                raise ConfigurationError(
                    f"{where}.provider_options.{name}: must be one of `providers`, which are "
                    f"{', '.join(self.providers)}."
                )


def is_device(name: str) -> bool:
    """Whether this is how a device is named: `cpu`, `cuda` or `cuda:N`."""
    return bool(_DEVICE.fullmatch(name))
