"""How urgent rows are, which says before whose they run and on which threads."""

from enum import IntEnum
from typing import Final

from forebay.contract.prediction import Lane
from forebay.lanes.consumer import Delivery


class Urgency(IntEnum):
    """How urgent a row is, the most urgent first.

    One of a caller who asks for little while another has heaped up much, on the lane of realtime or
    in the worker; another of realtime; one of bulk, for which nobody waits.
    """

    AHEAD = 0
    REALTIME = 1
    BULK = 2


OF_LANE: Final = {Lane.REALTIME: Urgency.REALTIME, Lane.BULK: Urgency.BULK}
"""Of rows that go ahead of nobody."""


def urgency_of(delivery: Delivery) -> Urgency:
    """What the lane says of its rows. Of bulk nothing is urgent, whoever went ahead."""
    if delivery.went_ahead and delivery.lane is Lane.REALTIME:
        return Urgency.AHEAD
    return OF_LANE[delivery.lane]
