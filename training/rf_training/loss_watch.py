"""The losses of the latest steps, left on the device until they must be known."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rf_platform.errors import RunError

READ_EVERY = 20
"""Steps after which losses are read from a device: reading one waits for all of its step. A CPU has every one at hand."""


class LossWatch:
    """Reads the losses together, and stops the run at the first that is not finite.

    Args:
        device: where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._every = 1 if device.type == "cpu" else READ_EVERY
        self._unread: list[tuple[Tensor, Callable[[float], str]]] = []
        self._latest: float | None = None

    @property
    def note(self) -> str:
        """The last loss that was read, for the line of progress; empty until there is one."""
        return "" if self._latest is None else f"loss {self._latest:.3f}"

    def add(self, loss: Tensor, fault: Callable[[float], str]) -> list[float]:
        """Take in the loss of a step.

        Args:
            loss: without a gradient.
            fault: says what is wrong if it is not finite.

        Returns:
            The losses, of this and earlier steps, that were read because it is time to.

        Raises:
            RunError: one of them is not finite.
        """
        self._unread.append((loss, fault))
        return self.read() if len(self._unread) >= self._every else []

    def read(self) -> list[float]:
        """Read what was not read yet: before weights are kept, so that none are kept that came of a loss that is not finite.

        Raises:
            RunError: one is not finite.
        """
        if not self._unread:
            return []
        unread, self._unread = self._unread, []
        values: list[float] = torch.stack([loss for loss, _ in unread]).tolist()
        for value, (_, fault) in zip(values, unread, strict=True):
            if not math.isfinite(value):
                raise RunError(fault(value))
        self._latest = values[-1]
        return values
