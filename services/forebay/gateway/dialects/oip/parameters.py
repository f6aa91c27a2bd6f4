"""A request's `parameters`: how it wants to be run.

`priority` and `timeout` are Triton's schedule policy extension, `binary_data_output` its binary
tensor data extension; `truncate` is ours. What models here can't heed is refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.prediction import Lane
from forebay.contract.validation import explain

MICROSECONDS: Final = 1_000_000


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Those that a request may carry.

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

    def check(self) -> None:
        """Refuse what can't be done.

        Raises:
            InvalidInput: it asks for a sequence.
        """
        if self.sequence_id:
            raise InvalidInput(
                "sequence_id: models here keep no state between requests; leave it out.",
                param="parameters.sequence_id",
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
