"""A request's `parameters`: how it wants to be run.

`priority` and `timeout` are Triton's schedule policy extension, `binary_data_output` its binary
tensor data extension; `truncate` is ours, and so are those of models that generate text. What a
model can't heed is refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane
from forebay.contract.rows import Task
from forebay.contract.validation import explain
from forebay.gateway.generation import SamplingFields

MICROSECONDS: Final = 1_000_000


class Parameters(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those that a request may carry, and to a model that generates text those of `SamplingFields`.

    Attributes:
        binary_data_output: give outputs as binary data, unless an output says otherwise; REST only.
        priority: 0, not said, and 1, the highest, take the realtime lane; the others bulk.
        timeout: microseconds that the request may take; 0 leaves it to the gateway.
        truncate: cut rows that are over the model's limit instead of refusing them.
        triton_enable_empty_final_response: mark the last response to a request in a stream.
        sequence_id: must be 0 or empty: models here keep no state between requests.
        sequence_start: not heeded without `sequence_id`.
        sequence_end: likewise.
    """

    binary_data_output: bool = False
    priority: Annotated[int, Meta(ge=0)] = 0
    timeout: Annotated[int, Meta(ge=0)] = 0
    truncate: bool = False
    triton_enable_empty_final_response: bool = False
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False

    @property
    def lane(self) -> Lane:
        """Where it queues."""
        return Lane.REALTIME if self.priority <= 1 else Lane.BULK

    @property
    def timeout_s(self) -> float | None:
        """How long it may take; None if it doesn't say."""
        return self.timeout / MICROSECONDS if self.timeout else None

    def check(self, spec: ModelSpec) -> None:
        """Refuse what a model can't do.

        Raises:
            InvalidInput: it asks for a sequence, or how to generate what is not generated.
        """
        if self.sequence_id:
            raise InvalidInput(
                "sequence_id: models here keep no state between requests; leave it out.",
                param="parameters.sequence_id",
            )
        if spec.task is Task.GENERATION:
            return
        for name in SamplingFields.__struct_fields__:
            if getattr(self, name) not in (None, False):
                raise InvalidInput(
                    f"{name} is for models that generate text, and {spec.name!r} is none: leave it "
                    "out.",
                    param=f"parameters.{name}",
                )


def read(given: Mapping[str, Any]) -> Parameters:
    """Parameters from a mapping.

    Raises:
        InvalidInput: one is unknown, or of another type; `param` names it.
    """
    try:
        return msgspec.convert(dict(given), Parameters)
    except msgspec.ValidationError as error:
        raise explain(str(error), within="parameters") from None
