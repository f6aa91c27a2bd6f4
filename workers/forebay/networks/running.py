"""Forward passes of a network: eager or compiled, on a device."""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from forebay.contract.execution import TorchOptions
from forebay.contract.manifest import TextLimits
from forebay.networks.feeding import Ids, feed, width, widths
from forebay.networks.network import TextNetwork

Values = npt.NDArray[np.float32]


class Runner:
    """Runs a network over rows of token ids. Safe to call from several threads.

    Args:
        network: opened on its device.
        limits: the manifest's.
        segments: whether it is told which of two texts a token is of.
        options: how it is executed.
        device: that it is on.
    """

    def __init__(
        self,
        network: TextNetwork,
        limits: TextLimits,
        *,
        segments: bool,
        options: TorchOptions,
        device: str = "cpu",
    ) -> None:
        self._limits = limits
        self._segments = segments
        self._device = torch.device(device)
        self._network = network
        self._forward: Any = network
        self._options = options

    def run(self, ids: Sequence[Ids], segments: Sequence[Ids | None]) -> Values:
        """A forward pass for each width among the rows.

        Args:
            ids: of each row, int64 `[length]`; at least one row.
            segments: likewise; not looked at where the network isn't told.

        Returns:
            float32, the axis of rows first; zeros where another row has more tokens.
        """
        limit = self._limits.max_tokens
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(ids):
            groups.setdefault(width(len(row), limit), []).append(index)
        made = {
            wide: self._pass([ids[i] for i in rows], [segments[i] for i in rows], wide)
            for wide, rows in groups.items()
        }
        if len(made) == 1:
            return next(iter(made.values()))
        largest = made[max(made)]
        together = np.zeros((len(ids), *largest.shape[1:]), np.float32)
        for wide, rows in groups.items():
            values = made[wide]
            if values.ndim > 2:  # an axis of tokens
                together[rows, : values.shape[1]] = values
            else:
                together[rows] = values
        return together

    def compile(self) -> None:
        """Compile the network, if asked to; until then it runs eagerly.

        All widths are run, so that nothing is compiled once rows are served: a graph with open
        shapes still takes a single row for a case of its own.
        """
        if not self._options.compile:
            return
        mode = self._options.mode.value
        with warnings.catch_warnings():
            # PyTorch's compiler uses what PyTorch deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Shapes are left open, so that one graph serves rows and tokens in any number.
            self._forward = torch.compile(self._network, dynamic=True, mode=mode)
            for wide in widths(self._limits.max_tokens):
                row = np.full(wide, self._limits.pad_id, np.int64)
                for rows in (3, 1, 2):
                    self._pass([row] * rows, [None] * rows, wide)

    def _pass(self, ids: Sequence[Ids], segments: Sequence[Ids | None], wide: int) -> Values:
        inputs = feed(
            ids, segments if self._segments else None, pad_id=self._limits.pad_id, width=wide
        )
        with torch.inference_mode():
            if self._device.type != "cpu":
                inputs = {name: self._moved(value) for name, value in inputs.items()}
            return cast("Values", self._forward(**inputs).cpu().numpy())

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        """On the device. Pinned memory is copied while that still works on what came before."""
        return value.pin_memory().to(self._device, non_blocking=True)
