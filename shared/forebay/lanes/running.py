"""Which entries a worker runs at this moment, told to Redis before it does.

If the worker dies, whoever reclaims its leases knows which of them may be to blame, and counts a
strike for those only; what it had leased but not begun gets none.
"""

import threading
from collections.abc import Sequence

from forebay.lanes.consumer import Delivery
from forebay.lanes.keys import LaneKeys
from forebay.runtime.wire import Wire


class Running:
    """One worker's word on what it runs. Called from the threads that run it.

    Args:
        wire: to Redis.
        keys: of the model's shard.
        worker: its name.
    """

    def __init__(self, wire: Wire, keys: LaneKeys, worker: str) -> None:
        self._wire = wire
        self._key = keys.running
        self._worker = worker
        self._slots: dict[str, str] = {}
        self._final = False
        self._lock = threading.Lock()

    def begin(self, slot: str, deliveries: Sequence[Delivery]) -> None:
        """These are about to run.

        Args:
            slot: where; it runs one thing at a time.
            deliveries: what, each once.
        """
        names = [f"{one.lane.value}:{one.entry.decode()}" for one in deliveries]
        with self._lock:
            self._slots[slot] = " ".join(names)
            self._post()

    def end(self, slot: str, *, tell: bool = False) -> None:
        """What ran there runs no more.

        Args:
            slot: where.
            tell: tell Redis now, rather than with what begins next.
        """
        with self._lock:
            self._slots.pop(slot, None)
            if tell:
                self._post()

    def last_word(self, slots: Sequence[str] = (), *, reason: str = "") -> None:
        """This worker ends now, of its own will; whatever begins from here on is not told.

        Args:
            slots: only what runs there is to blame for it.
            reason: why, for the history of that.
        """
        with self._lock:
            self._slots = {slot: self._slots.get(slot, "") for slot in slots}
            self._post()
            self._final = True
        if slots:
            self._wire.post("HSET", self._key, f"{self._worker} why", reason)

    def _post(self) -> None:
        # Under the lock, so that an older word never overtakes a newer one.
        if not self._final:
            self._wire.post("HSET", self._key, self._worker, " ".join(self._slots.values()))
