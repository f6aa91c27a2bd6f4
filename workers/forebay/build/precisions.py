"""The steps that change the number format of a graph, one function a precision."""

from collections.abc import Callable

import msgspec
from onnx import ModelProto

from forebay.build import blocks, calibrate, half, quantize
from forebay.build.draft import Progress
from forebay.build.gauge import Gauge
from forebay.build.mix import Quantizer, mix
from forebay.build.trial import Trials
from forebay.contract.errors import BuildFailed
from forebay.contract.model import Precision

Remake = Callable[[ModelProto], ModelProto]
"""Does to another form of the FP32 graph what was chosen for this one."""


class Made(msgspec.Struct, frozen=True):
    """A graph in its precision.

    Attributes:
        remake: see `Remake`.
        smoothing: strength of the smoothing.
        keep: products that were not quantized so far.
    """

    model: ModelProto
    remake: Remake
    smoothing: float = 0.0
    keep: tuple[str, ...] = ()


class Setting(msgspec.Struct, frozen=True):
    """What the steps are given.

    Attributes:
        model: the graph in FP32.
        trials: of that graph.
        gauge: keeps what each step did.
        budget: share of the products' weights that may be kept as they are.
        progress: told how far each step is.
    """

    model: ModelProto
    trials: Trials
    gauge: Gauge
    budget: float
    progress: Progress


def make(precision: Precision, setting: Setting) -> Made:
    """Bring a graph to a precision, step by step.

    Raises:
        BuildFailed: graphs don't come in it.
    """
    match precision:
        case Precision.FP32:
            return Made(setting.model, lambda other: other)
        case Precision.FP16:
            return _half(setting)
        case Precision.INT8:
            return _int8(setting)
        case Precision.INT8_WEIGHT_ONLY:
            return _weights(setting, bits=8)
        case Precision.INT4_WEIGHT_ONLY:
            return _weights(setting, bits=4)
        case Precision.BF16:
            raise BuildFailed('A graph has no BF16: say `backend = "torch"`, or `fp16`.')
        case Precision.INT4:
            raise BuildFailed("`int4` is for models that generate: say `int4-weight-only`.")


def _half(setting: Setting) -> Made:
    setting.progress("half", 0.0)
    result = half.halved(setting.model)
    setting.gauge.record("half", result, "16-bit weights and computing")
    return Made(result, half.halved)


def _int8(setting: Setting) -> Made:
    model, trials, gauge = setting.model, setting.trials, setting.gauge
    setting.progress("quantize", 0.0)
    peaks = calibrate.measure_peaks(model, trials)
    result = quantize.quantize(model, peaks=peaks, smoothing=0.0)
    gauge.record("quantize", result, "8 bits per token and channel")

    setting.progress("smooth", 0.0)
    found = calibrate.smooth(
        model, trials, peaks, progress=lambda done: setting.progress("smooth", done)
    )
    if found.inputs:
        result = quantize.quantize(model, peaks=peaks, smoothing=found.inputs)
        alphas = ", ".join(f"{alpha:g}" for alpha in found.parts)
        gauge.record("smooth", result, f"α {alphas} by depth")
    else:
        gauge.skip("smooth", "α 0", "no smoothing was closer")

    def quantizer(keep: frozenset[str]) -> Callable[[ModelProto], ModelProto]:
        return lambda other: quantize.quantize(
            other, peaks=peaks, smoothing=found.inputs, keep=keep
        )

    keep = _mixed(setting, lambda keep: quantizer(frozenset(keep))(model), found.closeness)
    remake = quantizer(frozenset(keep))
    return Made(remake(model), remake, found.alpha, keep)


def _weights(setting: Setting, *, bits: int) -> Made:
    model, trials = setting.model, setting.trials
    sizes, closest = blocks.BLOCKS[bits], dict[int, float]()
    for block in sizes:
        setting.progress("quantize", len(closest) / len(sizes))
        closest[block] = trials.closeness(blocks.quantize(model, bits=bits, block=block))
        if closest[block] >= trials.aim:
            break
    block = max(closest, key=lambda one: (closest[one] >= trials.aim, closest[one]))
    result = blocks.quantize(model, bits=bits, block=block)
    setting.gauge.record("quantize", result, f"weights in {bits} bits, blocks of {block}")

    def quantizer(keep: frozenset[str]) -> Callable[[ModelProto], ModelProto]:
        return lambda other: blocks.quantize(other, bits=bits, block=block, keep=keep)

    keep = _mixed(setting, lambda keep: quantizer(frozenset(keep))(model), closest[block])
    remake = quantizer(frozenset(keep))
    return Made(remake(model), remake, keep=keep)


def _mixed(setting: Setting, quantizer: Quantizer, closeness: float) -> tuple[str, ...]:
    """Products to keep as they are; measured and told only where the aim asks for some."""
    aim = setting.trials.aim
    setting.progress("mix", 0.0)
    if closeness >= aim:
        return ()
    if setting.budget == 0:
        setting.gauge.skip("mix", "none", f"{closeness} is under {aim}, and max_fp32 is 0")
        return ()
    found = mix(
        setting.model,
        quantizer,
        setting.trials,
        budget=setting.budget,
        progress=lambda done: setting.progress("mix", done),
    )
    if found.closeness <= closeness:
        setting.gauge.skip("mix", "none", "no product within max_fp32 brought it closer")
        return ()
    reached = "reached" if found.closeness >= aim else "not reached within max_fp32"
    setting.gauge.record(
        "mix",
        quantizer(frozenset(found.keep)),
        f"{len(found.keep)} products kept, {found.share:.0%} of the weights",
        why=f"{closeness:.5f} on calibration texts; {aim} {reached}: {found.closeness:.5f}",
    )
    return found.keep
