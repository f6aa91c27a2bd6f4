"""Memory that a generating model's slots come to, which its process takes only as they fill."""

import msgspec

from forebay.contract.execution import CPU, PROVIDERS
from forebay.contract.manifest import Manifest
from forebay.contract.model import BackendName, ModelSpec


class Reserve(msgspec.Struct, frozen=True):
    """Keys and values of all slots, full.

    Attributes:
        model: whose.
        slots: how many.
        context: tokens of each.
        token_bytes: of one token's keys and values.
    """

    model: str
    slots: int
    context: int
    token_bytes: int

    @property
    def bytes(self) -> int:
        """Of all slots."""
        return self.slots * self.context * self.token_bytes

    def __str__(self) -> str:
        """For people: what it is, and what makes it less."""
        return (
            f"{self.bytes / 1e6:,.0f} MB of that are keys and values of {self.slots} slots of "
            f"{self.context:,} tokens: lower models.{self.model}.generation.slots or `context`."
        )


def reserve_of(spec: ModelSpec, manifest: Manifest) -> Reserve | None:
    """What a model's slots come to in the machine's memory; None for one that has none there."""
    decoder = manifest.decoder
    if decoder is None or _on_device(spec):
        return None
    table = spec.generation
    context = table.context or decoder.context
    return Reserve(spec.name, table.slots, context, decoder.token_bytes)


def _on_device(spec: ModelSpec) -> bool:
    """Whether keys and values are in the memory of a device."""
    if spec.backend is BackendName.ONNX:
        return spec.onnx.sessions[0][0] != PROVIDERS[CPU]
    return spec.device != CPU
