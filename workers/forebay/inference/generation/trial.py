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
LONG: Final = 576
"""Tokens that rows look back at: kernels may go about long texts otherwise."""

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
        for wanted, steps in ((SHORT, rows), (LONG, 2)):
            length = min(wanted, session.pool.capacity - rows)
            text = _Text(session, length, rows)
            measured.append((1, length, text.step(steps)))
            for size in {2, rows}:
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
        shape = self._pool.take(_SLOT, length).shape
        self._pool.put(_SLOT, draws.standard_normal(shape, np.float32))
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
        known = min(count, len(self._logits))
        for _ in range(_ROUNDS):
            # What steps have stored is gone, so that it can't be found there.
            self._pool.put(_SLOT, self._nothing, start=self._length)
            began = time.perf_counter()
            logits = self._session.check(_SLOT, self._tokens[:count], filled=self._length)
            taken.append(time.perf_counter() - began)
            stored = self._pool.take(_SLOT, known, start=self._length)
            if not (
                np.array_equal(logits[:known], self._logits[:known])
                and np.array_equal(stored, self._stored[:, :, :known])
            ):
                return None
        return min(taken)
