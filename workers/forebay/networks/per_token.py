"""Linear layers in 8 bits: one scale a token for what comes in, one a channel for the weights.

The product is a sum of integers, so it is exact and no token's result depends on another's. The
same arithmetic as an ONNX build's (decision 0005), without smoothing.
"""

from typing import Any, cast

import torch

from forebay.runtime.processor import saturates

_LEVELS = 127
_LEAST = 1e-12
"""Smallest scale: of a token or channel of zeros."""

_CUDA_TOKENS = 17
_CUDA_MULTIPLE = 8
"""cuBLAS takes at least so many tokens, and channels in multiples of this."""


class PerTokenLinear(torch.nn.Module):
    """A linear layer `[…, inputs]` to `[…, outputs]`, its weights int8 `[outputs, inputs]`.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        bias: whether there is one, in the precision of what comes in.
        dtype: of the bias.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, inputs: int, outputs: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(outputs))
        self.register_buffer("bias", torch.empty(outputs, dtype=dtype) if bias else None)

    @classmethod
    def of(cls, linear: torch.nn.Linear) -> "PerTokenLinear":
        """The same layer in 8 bits, rounded to the nearest step of each channel's largest value."""
        made = cls.like(linear)
        weight = linear.weight.detach().float()
        made.scale = weight.abs().amax(1).clamp_min(_LEAST) / _LEVELS
        made.weight = torch.round(weight / made.scale[:, None]).to(torch.int8)
        if made.bias is not None:
            made.bias = linear.bias.detach().clone()
        return made

    @classmethod
    def like(cls, linear: torch.nn.Linear) -> "PerTokenLinear":
        """A layer of the same form, its values still to be loaded."""
        return cls(
            linear.in_features,
            linear.out_features,
            bias=cast("torch.Tensor | None", linear.bias) is not None,
            dtype=linear.weight.dtype,
        )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Quantize each token, multiply integers, scale back; the result has `given`'s dtype."""
        tokens = given.reshape(-1, given.shape[-1]).float()
        scale = tokens.abs().amax(-1, keepdim=True).clamp_min(_LEAST) / _LEVELS
        made = _product(torch.round(tokens / scale).to(torch.int8), self.weight)
        made = made * scale * self.scale
        if self.bias is not None:
            made = made + self.bias
        return made.to(given.dtype).view(*given.shape[:-1], -1)


def quantize(body: torch.nn.Module, *, load: bool = False) -> None:
    """Replace every linear layer inside a module by one in 8 bits.

    Args:
        body: changed in place.
        load: leave the values to be loaded, instead of taking them from the layers there are.
    """
    make = PerTokenLinear.like if load else PerTokenLinear.of
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            # Subclasses may do something else with their weights.
            if type(child) is torch.nn.Linear:
                setattr(module, name, make(child))


def _product(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Integer product `[tokens, outputs]` of int8 `[tokens, inputs]` and `[outputs, inputs]`."""
    if _has_integer_kernel(tokens, weight):
        # Not public, and all there is: torchao is built on it too.
        product: torch.Tensor = cast("Any", torch)._int_mm(tokens, weight.t())
        return product.float()
    # Exact too, up to 1,040 inputs: 127 x 127 x 1,040 is the last sum that float32 can tell.
    return tokens.float() @ weight.t().float()


def _has_integer_kernel(tokens: torch.Tensor, weight: torch.Tensor) -> bool:
    if not tokens.is_cuda:
        return not _SATURATES
    aligned = all(size % _CUDA_MULTIPLE == 0 for size in weight.shape)
    return aligned and tokens.shape[0] >= _CUDA_TOKENS


_SATURATES = saturates()
