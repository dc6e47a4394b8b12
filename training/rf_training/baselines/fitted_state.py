"""State of a fitted baseline: weights and plain values, from which it is built again; nothing that is read can be code."""

from typing import Any, Protocol, runtime_checkable

FittedState = dict[str, Any]
"""Tensors and plain values by name, as ``torch.load(weights_only=True)`` reads them; dicts and lists of them, too."""


@runtime_checkable
class Keepable(Protocol):
    """A fitted baseline that can be kept."""

    def state(self) -> FittedState:
        """Return what was fitted."""
