"""What the environment says of traces: OpenTelemetry's own variables.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. Where nothing
says how much is sampled it is 5 % of what comes without a trace of its own.
"""

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from forebay.contract.errors import ConfigurationError

RATIO: Final = 0.05
"""Of the requests that come without a trace, unless the environment says otherwise."""

_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_PROTOCOLS: Final = ("grpc", "http/protobuf")
_EXPORTERS: Final = ("otlp", "console", "none")


class TracingOptions(msgspec.Struct, frozen=True):
    """How traces are made.

    Attributes:
        exporter: `otlp` or `console`.
        protocol: of OTLP: `grpc` or `http/protobuf`.
        by_parent: whether who sends a trace decides whether it is recorded.
        ratio: of the others, or of all, that are, 0..1.
    """

    exporter: str = "otlp"
    protocol: str = "http/protobuf"
    by_parent: bool = True
    ratio: float = RATIO


def read_options(env: Mapping[str, str] = os.environ) -> TracingOptions | None:
    """What an environment asks for; None if no traces.

    Raises:
        ConfigurationError: a variable says what can't be.
    """
    if _of(env, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    exporter = _of(env, "OTEL_TRACES_EXPORTER")
    endpoint = _of(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _of(
        env, "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    if not exporter:
        exporter = "otlp" if endpoint else "none"
    _one_of("OTEL_TRACES_EXPORTER", exporter, _EXPORTERS)
    if exporter == "none":
        return None
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    if not _of(env, name):
        name = "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = _of(env, name) or "http/protobuf"
    _one_of(name, protocol, _PROTOCOLS)
    sampler = _of(env, "OTEL_TRACES_SAMPLER") or "parentbased_traceidratio"
    _one_of("OTEL_TRACES_SAMPLER", sampler, _SAMPLERS)
    by_parent = sampler.startswith("parentbased_")
    match sampler.removeprefix("parentbased_"):
        case "always_on":
            ratio = 1.0
        case "always_off":
            ratio = 0.0
        case _:
            ratio = _ratio(env)
    return TracingOptions(exporter, protocol, by_parent, ratio)


def _of(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip()


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} is {value!r}: it must be one of {', '.join(known)}.")


def _ratio(env: Mapping[str, str]) -> float:
    told = _of(env, "OTEL_TRACES_SAMPLER_ARG")
    if not told:
        return RATIO
    try:
        ratio = float(told)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER_ARG is {told!r}: it must be a share from 0 to 1, such as 0.05."
        )
    return ratio
