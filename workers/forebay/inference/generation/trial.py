"""What is found out when a model is loaded: whether checks give the bits of steps, and the costs.

A check rests on how a kernel goes about its rows (`session.DecoderSession.check`), which is not
said of any kernel. So it is tried, on this machine, with this graph, before any text is drafted
for: what steps come to one by one, checks have to come to, bit for bit, in logits and in keys and
values.
"""

import time
from typing import Final

import numpy as np

from forebay.inference.generation.session import DecoderSession, Logits
from forebay.inference.generation.worth import Costs

SHORT: Final = 24
LONG: Final = 2_048
"""Tokens that rows look back at. Kernels go about long texts otherwise where threads are many: from
as many tokens on as fit into a core's cache, which are hundreds."""

_EDGE: Final = 32
"""Tokens at a long text's ends that are not nothing."""

_SLOT: Final = 0
_ROUNDS: Final = 3
"""Times that a run is measured; the quickest counts."""


def trial(session: DecoderSession) -> Costs | None:
    """Run steps and checks in a slot of a pool that nobody uses yet; it is empty again after.

    Args:
        session: its pool has more than one row a slot.

    Returns:
        What runs cost; None where a check comes to anything else than steps.

    Raises:
        BackendFailed: ONNX Runtime failed.
    """
    rows = session.pool.rows
    measured: list[tuple[int, int, float]] = []
    try:
        for wanted, sizes in ((SHORT, (2, rows)), (LONG, (2,))):
            length = min(wanted, session.pool.capacity - rows)
            text = _Text(session, length, rows)
            measured.append((1, length, text.step(max(sizes))))
            for size in sizes:
                seconds = text.check(size)
                if seconds is None:
                    return None
                measured.append((size, length, seconds))
    finally:
        session.pool.clear()
    return Costs.fit(measured)


class _Text:
    """Tokens behind keys and values of chance."""

    def __init__(self, session: DecoderSession, length: int, tokens: int) -> None:
        draws = np.random.default_rng(length)
        self._session, self._pool = session, session.pool
        self._length = length
        self._tokens = draws.integers(session.vocabulary, size=tokens)
        edge = min(_EDGE, length)
        for start in (0, length - edge):
            shape = self._pool.take(_SLOT, edge).shape
            self._pool.put(_SLOT, draws.standard_normal(shape, np.float32), start=start)
        self._nothing = self._pool.take(_SLOT, tokens)
        self._logits = np.zeros((0, session.vocabulary), np.float32)
        self._stored = self._nothing[:, :, :0]

    def step(self, count: int) -> float:
        """Compute some of the tokens one by one; gives seconds of one."""
        logits: list[Logits] = []
        taken: list[float] = []
        for number, token in enumerate(self._tokens[:count]):
            began = time.perf_counter()
            filled = np.array([self._length + number])
            (row,) = self._session.decode(_SLOT, np.array([token]), filled)
            taken.append(time.perf_counter() - began)
            logits.append(row.copy())
        self._logits = np.array(logits)
        self._stored = self._pool.take(_SLOT, count, start=self._length)
        return min(taken)

    def check(self, count: int) -> float | None:
        """Compute some at once; gives seconds, None if they come to anything else."""
        taken: list[float] = []
        for _ in range(_ROUNDS):
            # What steps have stored is gone, so that it can't be found there.
            self._pool.put(_SLOT, self._nothing, start=self._length)
            began = time.perf_counter()
            logits = self._session.check(_SLOT, self._tokens[:count], filled=self._length)
            taken.append(time.perf_counter() - began)
            stored = self._pool.take(_SLOT, count, start=self._length)
            if not (
                np.array_equal(logits, self._logits[:count])
                and np.array_equal(stored, self._stored[:, :, :count])
            ):
                return None
        return min(taken)
